//! The manual page and the shells' completions are made from the help text, and are current.
//!
//! `TSSH_WRITE_MANUAL=1 cargo test -p tssh --test manual` writes them anew.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tssh::cli::HELP;

/// One option of the help text.
struct Entry {
    /// As it is written: `-f`, `--tsshd-path path`.
    forms: Vec<String>,
    help: String,
}

/// Takes the help text apart: titles of sections, each with its options.
fn sections() -> Vec<(String, Vec<Entry>)> {
    let mut sections: Vec<(String, Vec<Entry>)> = Vec::new();
    for line in HELP.lines().skip_while(|line| !line.starts_with("Session")) {
        if let Some(title) = line.strip_suffix(':') {
            sections.push((title.to_owned(), Vec::new()));
            continue;
        }
        let Some((_, entries)) = sections.last_mut() else { continue };
        match line.strip_prefix("  -") {
            Some(option) => {
                let (forms, help) = option.split_once("  ").unwrap_or((option, ""));
                let forms = format!("-{forms}");
                let forms = forms.split(", ").map(str::to_owned).collect();
                entries.push(Entry { forms, help: help.trim().to_owned() });
            }
            None => {
                if let Some(entry) = entries.last_mut() {
                    entry.help = format!("{} {}", entry.help, line.trim()).trim().to_owned();
                }
            }
        }
    }
    sections.retain(|(_, entries)| !entries.is_empty());
    sections
}

/// Our own long options, with their help.
fn long_options() -> Vec<(String, String)> {
    let mut options = Vec::new();
    for entry in sections().into_iter().flat_map(|(_, entries)| entries) {
        for form in entry.forms {
            if form.starts_with("--") {
                let name = form.split(' ').next().unwrap_or_default().to_owned();
                options.push((name, entry.help.clone()));
            }
        }
    }
    options
}

fn roff(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-");
    if text.starts_with(['.', '\'']) { format!("\\&{text}") } else { text }
}

const FIRST: &str = ".\\\" Made from the help text by crates/client/tests/manual.rs; do not edit.
.TH TSSH 1
.SH NAME
tssh \\- log in to another host, and stay there through sleep, roaming and outages
.SH SYNOPSIS
.B tssh
.RI [ options ]
.I destination
.RI [ command
.RI [ argument \" ...\" ]]
.SH DESCRIPTION
.B tssh
is an ssh client that takes ssh's command line, configuration, keys and known hosts.
With
.B \\-\\-udp
it starts
.BR tsshd (1)
on the host over its login and moves the session to UDP, where changes of address, sleep and
outages do not end it.
.PP
The destination is
.RI [ user @] host
or
.RI ssh://[ user @] host [: port ].
";

const LAST: &str = ".SH FILES
.TP
.I ~/.ssh/config, /etc/ssh/ssh_config
Configuration, as for
.BR ssh (1).
A line that begins with
.B #!!
is a comment for ssh and a setting for tssh.
.TP
.I ~/.ssh/known_hosts, /etc/ssh/ssh_known_hosts
Keys of hosts.
.SH ENVIRONMENT
.TP
.BR SSH_AUTH_SOCK
Where the authentication agent listens.
.TP
.BR SSH_ASKPASS \", \" SSH_ASKPASS_REQUIRE
The program that asks for secrets where there is no terminal; with
.B prefer
or
.B force
also where there is one, with
.B never
nowhere.
.SH EXIT STATUS
That of the remote command, or 255 if there was an error.
.SH SEE ALSO
.BR ssh (1),
.BR ssh_config (5),
.BR tsshd (1)
";

fn manual() -> String {
    let mut page = FIRST.to_owned();
    for (title, entries) in sections() {
        page.push_str(&format!(".SH {}\n", roff(&title.to_uppercase())));
        for entry in entries {
            let forms: Vec<String> = entry
                .forms
                .iter()
                .map(|form| match form.split_once(' ') {
                    Some((name, value)) => {
                        format!("\\fB{}\\fR \\fI{}\\fR", roff(name), roff(value))
                    }
                    None => format!("\\fB{}\\fR", roff(form)),
                })
                .collect();
            page.push_str(&format!(".TP\n{}\n{}.\n", forms.join(", "), roff(&entry.help)));
        }
    }
    page + LAST
}

const MADE: &str = "# Made from the help text by crates/client/tests/manual.rs; do not edit.\n";

/// Everything ssh's own completion knows (hosts above all), and our options.
fn bash() -> String {
    let names: Vec<String> = long_options().into_iter().map(|(name, _)| name).collect();
    format!(
        "{MADE}_tssh() {{\n    local current=${{COMP_WORDS[COMP_CWORD]}}\n    \
         if [[ $current == --* ]]; then\n        \
         mapfile -t COMPREPLY < <(compgen -W \"{}\" -- \"$current\")\n        return\n    fi\n    \
         declare -F _comp_cmd_ssh _ssh >/dev/null || _comp_load ssh 2>/dev/null ||\n        \
         _completion_loader ssh 2>/dev/null\n    \
         if declare -F _comp_cmd_ssh >/dev/null; then\n        _comp_cmd_ssh \"$@\"\n    \
         elif declare -F _ssh >/dev/null; then\n        _ssh \"$@\"\n    fi\n}}\n\
         complete -F _tssh tssh\n",
        names.join(" ")
    )
}

fn zsh() -> String {
    let lines: Vec<String> = long_options()
        .into_iter()
        .map(|(name, help)| {
            format!("        '{name}:{}'", help.replace('\'', "'\\''").replace(':', "\\:"))
        })
        .collect();
    format!(
        "#compdef tssh\n{MADE}_tssh() {{\n    if [[ $PREFIX == --* ]]; then\n        \
         local -a options=(\n{}\n        )\n        _describe option options\n    else\n        \
         local service=ssh\n        _ssh \"$@\"\n    fi\n}}\n_tssh \"$@\"\n",
        lines.join("\n")
    )
}

fn fish() -> String {
    let lines: Vec<String> = long_options()
        .into_iter()
        .map(|(name, help)| {
            let help = help.replace('\\', "\\\\").replace('\'', "\\'");
            format!("complete -c tssh -l {} -d '{help}'", name.trim_start_matches('-'))
        })
        .collect();
    format!("{MADE}complete -c tssh -w ssh\n{}\n", lines.join("\n"))
}

fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs")
}

#[test]
fn manual_and_completions_say_what_the_help_says() {
    for (name, text) in [
        ("man/tssh.1", manual()),
        ("completions/tssh.bash", bash()),
        ("completions/_tssh", zsh()),
        ("completions/tssh.fish", fish()),
    ] {
        let path = docs().join(name);
        if std::env::var_os("TSSH_WRITE_MANUAL").is_some() {
            std::fs::write(&path, &text).expect("the page can be written");
        }
        let written = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(written == text, "docs/{name} is not current; see the head of this test");
    }
}

/// Runs a shell; `None`, after saying so, where there is none.
#[expect(clippy::print_stderr, reason = "a skipped test must say so")]
fn shell(program: &str, script: &str) -> Option<String> {
    let output = Command::new(program)
        .args(["-c", script])
        .current_dir(docs().join("completions"))
        .stdin(Stdio::null())
        .output();
    let Ok(output) = output else {
        eprintln!("skipped: no {program}");
        return None;
    };
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && said.is_empty(), "{program}: {said}");
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn shells_complete_our_options() {
    let ask = "source tssh.bash; COMP_WORDS=(tssh --tsshd-p); COMP_CWORD=1; _tssh; \
               printf '%s\\n' \"${COMPREPLY[@]}\"";
    if let Some(found) = shell("bash", ask) {
        assert_eq!(found, "--tsshd-path\n--tsshd-port\n");
    }
    if let Some(found) = shell("fish", "source tssh.fish; complete -C 'tssh --tsshd-p'") {
        let names: Vec<&str> = found.lines().filter_map(|line| line.split('\t').next()).collect();
        assert_eq!(names, ["--tsshd-path", "--tsshd-port"]);
    }
    // Its completions need a terminal; that it is a program at all can be seen without.
    shell("zsh", "zsh -n _tssh");
}
