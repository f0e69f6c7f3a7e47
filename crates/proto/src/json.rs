//! JSON as Go's standard library writes and reads it (PROTOCOL §6.1).
//!
//! Output: fields in declaration order, zero values left out, `<`, `>` and `&`
//! escaped. Input: names matched without regard to case, unknown names
//! ignored, integers as plain digits only, byte arrays as padded base64.
//! Serde's derive can do neither side, hence the small [`wire_struct!`] macro.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use zeroize::{Zeroize as _, Zeroizing};

pub use crate::wire_struct;

/// Why a JSON message was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JsonError {
    /// Not a JSON object. The text is not quoted: it may hold keys.
    #[error("not a JSON object")]
    NotAnObject,
    /// A field has the wrong type or is out of range.
    #[error("field {field} is not {expected}")]
    BadField {
        /// The field's name.
        field: &'static str,
        /// What it should have been.
        expected: &'static str,
    },
}

/// A value that may stand in a field of a message.
pub trait Field: Sized + Default {
    /// What is expected, for [`JsonError::BadField`].
    const EXPECTED: &'static str;
    /// Returns whether the value is Go's zero value, which is left out on output.
    fn is_zero(&self) -> bool;
    /// Appends the value as JSON.
    fn write(&self, out: &mut String);
    /// Takes the value out of `value`; `None` when it is of another type.
    /// `null` never comes here: it leaves the field at zero.
    fn read(value: &mut Value) -> Option<Self>;
}

/// A message: a JSON object with known fields.
pub trait Message: Sized + Default {
    /// Appends the message as one JSON object.
    fn write_json(&self, out: &mut String);

    /// Sets fields from an object, wiping strings that hold secrets.
    ///
    /// # Errors
    /// [`JsonError::BadField`] for a known field of the wrong type.
    fn read_object(map: &mut serde_json::Map<String, Value>) -> Result<Self, JsonError>;

    /// Returns the message as JSON text.
    fn to_json(&self) -> String {
        let mut out = String::new();
        self.write_json(&mut out);
        out
    }

    /// Reads a message from JSON bytes.
    ///
    /// Bytes that are not UTF-8 become U+FFFD, as in Go.
    ///
    /// # Errors
    /// [`JsonError`] when it is not an object or a field does not fit.
    fn from_json(bytes: &[u8]) -> Result<Self, JsonError> {
        // Any text here may hold keys; whatever happens, no copy of it stays behind.
        let text = Zeroizing::new(String::from_utf8_lossy(bytes).into_owned());
        let mut value: Value = serde_json::from_str(&text).map_err(|_| JsonError::NotAnObject)?;
        let Value::Object(map) = &mut value else { return Err(JsonError::NotAnObject) };
        let message = Self::read_object(map);
        wipe(&mut value);
        message
    }
}

/// Wipes what reading left of the strings in `value`.
fn wipe(value: &mut Value) {
    match value {
        Value::String(text) => text.zeroize(),
        Value::Array(items) => items.iter_mut().for_each(wipe),
        Value::Object(map) => map.values_mut().for_each(wipe),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Appends `text` as a JSON string the way Go does.
pub fn write_string(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            c if (c as u32) < 0x20 || matches!(c, '<' | '>' | '&' | '\u{2028}' | '\u{2029}') => {
                out.push_str(&format!("\\u{:04x}", c as u32));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

macro_rules! integer {
    ($($type:ty),*) => {$(
        impl Field for $type {
            const EXPECTED: &'static str = "a plain integer in range";
            fn is_zero(&self) -> bool {
                *self == 0
            }
            fn write(&self, out: &mut String) {
                out.push_str(&self.to_string());
            }
            fn read(value: &mut Value) -> Option<Self> {
                let Value::Number(number) = value else { return None };
                match (number.as_u64(), number.as_i64()) {
                    (Some(n), _) => n.try_into().ok(),
                    (_, Some(n)) => n.try_into().ok(),
                    _ => None,
                }
            }
        }
    )*};
}
integer!(u16, u32, u64, i64);

impl Field for bool {
    const EXPECTED: &'static str = "true or false";
    fn is_zero(&self) -> bool {
        !self
    }
    fn write(&self, out: &mut String) {
        out.push_str(if *self { "true" } else { "false" });
    }
    fn read(value: &mut Value) -> Option<Self> {
        value.as_bool()
    }
}

/// A pointer in Go: present even when its value is zero.
impl Field for Option<bool> {
    const EXPECTED: &'static str = "true or false";
    fn is_zero(&self) -> bool {
        self.is_none()
    }
    fn write(&self, out: &mut String) {
        out.push_str(if *self == Some(true) { "true" } else { "false" });
    }
    fn read(value: &mut Value) -> Option<Self> {
        value.as_bool().map(Some)
    }
}

impl Field for String {
    const EXPECTED: &'static str = "a string";
    fn is_zero(&self) -> bool {
        self.is_empty()
    }
    fn write(&self, out: &mut String) {
        write_string(self, out);
    }
    fn read(value: &mut Value) -> Option<Self> {
        match value {
            Value::String(text) => Some(std::mem::take(text)),
            _ => None,
        }
    }
}

/// Durations travel as whole nanoseconds; negative ones are refused.
impl Field for Duration {
    const EXPECTED: &'static str = "a count of nanoseconds";
    fn is_zero(&self) -> bool {
        Self::is_zero(self)
    }
    fn write(&self, out: &mut String) {
        let nanos = i64::try_from(self.as_nanos()).unwrap_or(i64::MAX);
        out.push_str(&nanos.to_string());
    }
    fn read(value: &mut Value) -> Option<Self> {
        value.as_i64().and_then(|n| u64::try_from(n).ok()).map(Self::from_nanos)
    }
}

/// A byte array: base64 with padding on the wire.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bytes(pub Vec<u8>);

impl Field for Bytes {
    const EXPECTED: &'static str = "padded base64";
    fn is_zero(&self) -> bool {
        self.0.is_empty()
    }
    fn write(&self, out: &mut String) {
        out.push('"');
        out.push_str(&STANDARD.encode(&self.0));
        out.push('"');
    }
    fn read(value: &mut Value) -> Option<Self> {
        // Go skips line breaks inside base64.
        let text: String = value.as_str()?.chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
        STANDARD.decode(text).ok().map(Self)
    }
}

impl Field for Vec<String> {
    const EXPECTED: &'static str = "a list of strings";
    fn is_zero(&self) -> bool {
        self.is_empty()
    }
    fn write(&self, out: &mut String) {
        out.push('[');
        for (i, item) in self.iter().enumerate() {
            if i > 0 {
                out.push(',');
            }
            write_string(item, out);
        }
        out.push(']');
    }
    fn read(value: &mut Value) -> Option<Self> {
        let Value::Array(items) = value else { return None };
        items
            .iter_mut()
            .map(|v| if v.is_null() { Some(String::new()) } else { String::read(v) })
            .collect()
    }
}

impl Field for BTreeMap<String, String> {
    const EXPECTED: &'static str = "an object of strings";
    fn is_zero(&self) -> bool {
        self.is_empty()
    }
    fn write(&self, out: &mut String) {
        out.push('{');
        for (i, (key, value)) in self.iter().enumerate() {
            if i > 0 {
                out.push(',');
            }
            write_string(key, out);
            out.push(':');
            write_string(value, out);
        }
        out.push('}');
    }
    fn read(value: &mut Value) -> Option<Self> {
        let Value::Object(map) = value else { return None };
        map.iter_mut()
            .map(|(k, v)| {
                let v = if v.is_null() { Some(String::new()) } else { String::read(v) };
                v.map(|v| (k.clone(), v))
            })
            .collect()
    }
}

/// An object inside a message; `None` is Go's null pointer.
impl<M: Message> Field for Option<M> {
    const EXPECTED: &'static str = "an object";
    fn is_zero(&self) -> bool {
        self.is_none()
    }
    fn write(&self, out: &mut String) {
        if let Some(message) = self {
            message.write_json(out);
        }
    }
    fn read(value: &mut Value) -> Option<Self> {
        let Value::Object(map) = value else { return None };
        M::read_object(map).ok().map(Some)
    }
}

/// Declares a message struct with its wire names.
///
/// A field marked `always` is written even when it is zero.
#[macro_export]
macro_rules! wire_struct {
    (
        $(#[$doc:meta])*
        $vis:vis struct $name:ident {
            $( $(#[$fdoc:meta])* $wire:literal $($always:ident)? => $field:ident : $type:ty ),* $(,)?
        }
    ) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        $vis struct $name {
            $( $(#[$fdoc])* pub $field: $type, )*
        }

        impl $crate::json::Message for $name {
            #[allow(
                unused_imports, unused_mut, unused_variables, unused_assignments,
                reason = "a message without fields uses none of these"
            )]
            fn write_json(&self, out: &mut String) {
                use $crate::json::Field as _;
                out.push('{');
                let mut first = true;
                $(
                    let always = false $( || stringify!($always) == "always" )?;
                    if always || !self.$field.is_zero() {
                        if !first {
                            out.push(',');
                        }
                        first = false;
                        $crate::json::write_string($wire, out);
                        out.push(':');
                        self.$field.write(out);
                    }
                )*
                out.push('}');
            }

            #[allow(unused_mut, unused_variables, reason = "as above")]
            fn read_object(
                map: &mut serde_json::Map<String, serde_json::Value>,
            ) -> Result<Self, $crate::json::JsonError> {
                let mut message = Self::default();
                for (key, value) in map.iter_mut() {
                    if value.is_null() {
                        continue;
                    }
                    $(
                        if key.eq_ignore_ascii_case($wire) {
                            message.$field = <$type as $crate::json::Field>::read(value).ok_or(
                                $crate::json::JsonError::BadField {
                                    field: $wire,
                                    expected: <$type as $crate::json::Field>::EXPECTED,
                                },
                            )?;
                            continue;
                        }
                    )*
                }
                Ok(message)
            }
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    wire_struct! {
        /// Test message.
        struct Sample {
            /// A number.
            "ID" => id: u64,
            /// Text.
            "Msg" => msg: String,
            /// Pointer.
            "Keep" => keep: Option<bool>,
            /// Bytes.
            "Data" => data: Bytes,
            /// Always there.
            "Port" always => port: u16,
            /// Time.
            "Time" => time: Duration,
        }
    }

    fn read(text: &str) -> Result<Sample, JsonError> {
        Sample::from_json(text.as_bytes())
    }

    #[test]
    fn zero_values_are_left_out_and_order_is_kept() {
        assert_eq!(Sample::default().to_json(), r#"{"Port":0}"#);
        let full = Sample {
            id: u64::MAX,
            msg: "<a&b>\"\n\u{2028}".into(),
            keep: Some(false),
            data: Bytes(vec![1]),
            port: 1,
            time: Duration::from_secs(1),
        };
        let text = r#"{"ID":18446744073709551615,"Msg":"\u003ca\u0026b\u003e\"\n\u2028","Keep":false,"Data":"AQ==","Port":1,"Time":1000000000}"#;
        assert_eq!(full.to_json(), text);
        assert_eq!(read(text), Ok(full));
    }

    #[test]
    fn names_match_without_case_and_unknown_names_are_ignored() {
        let got = read(r#"{"id":7,"MSG":"x","Other":[1,{"a":2}],"keep":null}"#).unwrap();
        assert_eq!((got.id, got.msg.as_str(), got.keep), (7, "x", None));
    }

    #[test]
    fn numbers_other_than_plain_digits_are_refused() {
        for bad in ["1.0", "1e3", "-1", "\"1\"", "18446744073709551616", "true"] {
            assert!(read(&format!("{{\"ID\":{bad}}}")).is_err(), "{bad}");
        }
        assert!(read(r#"{"Port":65536}"#).is_err());
        assert!(read(r#"{"Time":-1}"#).is_err());
    }

    #[test]
    fn base64_needs_its_padding() {
        assert!(read(r#"{"Data":"AQ"}"#).is_err());
        assert_eq!(read(r#"{"Data":null}"#).unwrap().data, Bytes(vec![]));
    }

    #[test]
    fn what_is_not_an_object_is_refused() {
        for bad in ["", "[]", "7", "{", "{}{}", "null"] {
            assert_eq!(read(bad), Err(JsonError::NotAnObject), "{bad}");
        }
    }
}
