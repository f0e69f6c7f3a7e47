//! From plaintexts to segments and datagrams.

use super::{MODULUS, SIZE_LEN, TYPE_DATA, TYPE_DATAGRAM, TYPE_PARITY};

/// What a plaintext holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shard<'a> {
    /// Segments, with a header or bare: feed them to KCP.
    Data(&'a [u8]),
    /// Segments of a data packet that did not come: feed them to KCP, but take
    /// no window and no round trip time from them, for they may be old.
    Recovered(&'a [u8]),
    /// An unreliable datagram of a conversation.
    Datagram {
        /// The conversation, to be compared with KCP's.
        conv: u32,
        /// What was sent; may be empty.
        payload: &'a [u8],
    },
    /// Parity that brings nothing new, or too late to tell.
    Spent,
}

/// Reads plaintexts and knows which data packets have come lately.
#[derive(Debug, Default)]
pub struct Decoder {
    window: Option<Window>,
    /// The newest number of a data or parity packet.
    newest: Option<u32>,
    order: Order,
}

/// What a packet's number says about its age.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// Newer than all before: nobody can have kept it back and sent it later.
    Newest,
    /// Overtaken by others, repeated, or kept back by somebody.
    Late,
    /// So late that no network does it.
    Stale,
    /// It has no number: a datagram.
    #[default]
    Unnumbered,
    /// It has no header at all, as no known peer sends; its age cannot be told.
    Bare,
}

impl Decoder {
    /// A decoder that has seen nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns what the number of the packet decoded last says.
    #[must_use]
    pub const fn order(&self) -> Order {
        self.order
    }

    /// Reads one plaintext.
    ///
    /// # Errors
    /// [`Malformed`]: drop the packet. Nothing has changed but [`Decoder::order`].
    pub fn decode<'a>(&mut self, plaintext: &'a [u8]) -> Result<Shard<'a>, Malformed> {
        self.order = Order::Unnumbered;
        let Some((header, body)) = plaintext.split_first_chunk::<6>() else {
            return Err(Malformed);
        };
        let [a, b, c, d, kind @ ..] = *header;
        let seqid = u32::from_le_bytes([a, b, c, d]);
        match u16::from_le_bytes(kind) {
            // As the reference, which does not look at the size of a data packet.
            TYPE_DATA => {
                let segments = body.get(SIZE_LEN..).ok_or(Malformed)?;
                self.note_order(seqid);
                if let Some(group) = group(seqid, 0) {
                    self.on_body(group);
                }
                Ok(Shard::Data(segments))
            }
            TYPE_PARITY => {
                let segments = sized(body)?;
                self.note_order(seqid);
                let is_new = group(seqid, 1).is_some_and(|group| self.on_body(group));
                Ok(if is_new { Shard::Recovered(segments) } else { Shard::Spent })
            }
            TYPE_DATAGRAM => {
                let (conv, payload) = sized(body)?.split_first_chunk().ok_or(Malformed)?;
                Ok(Shard::Datagram { conv: u32::from_le_bytes(*conv), payload })
            }
            // Bytes 4 and 5 of a segment are its command, 81 to 84, and its fragment.
            _ => {
                self.order = Order::Bare;
                Ok(Shard::Data(plaintext))
            }
        }
    }

    fn note_order(&mut self, seqid: u32) {
        if seqid >= MODULUS {
            return;
        }
        let newest = *self.newest.get_or_insert(seqid.checked_sub(1).unwrap_or(MODULUS - 1));
        let ahead = if seqid >= newest { seqid - newest } else { MODULUS - newest + seqid };
        self.order = if (1..MODULUS / 2).contains(&ahead) {
            self.newest = Some(seqid);
            Order::Newest
        } else if ahead == 0 || MODULUS - ahead <= LATEST {
            Order::Late
        } else {
            Order::Stale
        };
    }

    /// The body of a group came; returns whether it is known to be the first.
    fn on_body(&mut self, group: u32) -> bool {
        match &mut self.window {
            Some(window) => window.insert(group),
            None => {
                self.window = Some(Window { newest: group, seen: 1 });
                true
            }
        }
    }
}

/// A plaintext that no honest peer makes: shorter than its header or its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("packet is shorter than it says")]
pub struct Malformed;

/// Returns what follows the size field and is counted by it.
fn sized(body: &[u8]) -> Result<&[u8], Malformed> {
    let size = body.first_chunk().ok_or(Malformed)?;
    body.get(SIZE_LEN..usize::from(u16::from_le_bytes(*size))).ok_or(Malformed)
}

/// Returns the group of a packet; `None` for a number the type cannot have.
/// Such a peer groups otherwise, and nothing can be recovered from it.
fn group(seqid: u32, place: u32) -> Option<u32> {
    (seqid < MODULUS && seqid % 2 == place).then_some(seqid / 2)
}

/// Which of the latest groups have come, numbers wrapping at [`GROUPS`].
///
/// Wider than the reference's, which gives up on a group three behind the
/// newest: parity that was overtaken by more is still worth having.
#[derive(Debug)]
struct Window {
    newest: u32,
    /// Bit `n`: the body of group `newest - n` was passed on.
    seen: u64,
}

impl Window {
    /// Returns whether the group is in the window or newer, and had not come.
    fn insert(&mut self, group: u32) -> bool {
        let ahead = (group + GROUPS - self.newest) % GROUPS;
        if ahead < GROUPS / 2 {
            self.seen = self.seen.checked_shl(ahead).unwrap_or(0);
            self.newest = group;
            let is_new = self.seen & 1 == 0;
            self.seen |= 1;
            return is_new;
        }
        let Some(bit) = 1u64.checked_shl(GROUPS - ahead) else { return false };
        let is_new = self.seen & bit == 0;
        self.seen |= bit;
        is_new
    }
}

/// Numbers behind the newest up to which a packet is late and not stale: what
/// the guard against replay surely remembers (`crypt::replay`).
const LATEST: u32 = 28_672;

/// How many groups there are before their numbers repeat.
const GROUPS: u32 = MODULUS / 2;
