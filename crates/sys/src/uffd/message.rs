//! What a userfaultfd tells, as it is read.

/// Messages that are read at once: as many as threads that wait at one time, mostly.
pub const MESSAGES_MAX: usize = 32;

const EVENT_PAGEFAULT: u8 = 0x12;
const EVENT_FORK: u8 = 0x13;
const EVENT_REMAP: u8 = 0x14;
const EVENT_REMOVE: u8 = 0x15;
const EVENT_UNMAP: u8 = 0x16;
const PAGEFAULT_WRITE: u64 = 1;
const PAGEFAULT_WP: u64 = 2;

/// The kernel's `struct uffd_msg`: an event, and three words that depend on it.
#[derive(Clone, Copy)]
#[repr(C)]
struct RawMessage {
    event: u8,
    reserved: [u8; 7],
    words: [u64; 3],
}

const _: () = assert!(size_of::<RawMessage>() == 32);

/// What the kernel tells.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Message {
    /// A thread waits for a page.
    Fault {
        /// The page's address, or with `FEATURE_EXACT_ADDRESS` the byte's.
        address: usize,
        /// The thread wants to write.
        write: bool,
        /// The page is there, and protected.
        write_protect: bool,
        /// The thread's id, with `FEATURE_THREAD_ID`; else 0.
        thread: u32,
    },
    /// The process forked; the fork waits until this was read. `fd` is the child's userfaultfd, with the same ranges
    /// registered, and belongs to whoever reads this: give it to [`super::Uffd::from_fd`] once.
    Fork {
        /// The descriptor.
        fd: i32,
    },
    /// A range was moved, and is registered where it is now. An [`Message::Unmap`] of the old place follows (seen on
    /// Linux 6.18, unless the move left the old range mapped), by when somebody may have mapped anew there.
    Remap {
        /// Where it was.
        from: usize,
        /// Where it is.
        to: usize,
        /// Its length in bytes.
        len: usize,
    },
    /// The contents of a range are given up; the range stays registered.
    Remove {
        /// Where it begins.
        start: usize,
        /// Where it ends.
        end: usize,
    },
    /// A range was unmapped.
    Unmap {
        /// Where it began.
        start: usize,
        /// Where it ended.
        end: usize,
    },
}

impl RawMessage {
    /// `None` for an event that this crate does not know, and so cannot have asked for.
    fn decode(&self) -> Option<Message> {
        let [a, b, c] = self.words;
        let (start, end) = (a as usize, b as usize);
        match self.event {
            EVENT_PAGEFAULT => Some(Message::Fault {
                address: b as usize,
                write: a & PAGEFAULT_WRITE != 0,
                write_protect: a & PAGEFAULT_WP != 0,
                thread: c as u32,
            }),
            EVENT_FORK => Some(Message::Fork { fd: a as u32 as i32 }),
            EVENT_REMAP => Some(Message::Remap { from: a as usize, to: b as usize, len: c as usize }),
            EVENT_REMOVE => Some(Message::Remove { start, end }),
            EVENT_UNMAP => Some(Message::Unmap { start, end }),
            _ => None,
        }
    }
}

/// Room for the messages of one [`super::Uffd::read`].
pub struct MessageBuffer {
    raw: [RawMessage; MESSAGES_MAX],
    filled: usize,
}

impl MessageBuffer {
    /// An empty buffer.
    pub const fn new() -> MessageBuffer {
        MessageBuffer { raw: [RawMessage { event: 0, reserved: [0; 7], words: [0; 3] }; MESSAGES_MAX], filled: 0 }
    }

    /// How many messages were read last.
    pub const fn len(&self) -> usize {
        self.filled
    }

    /// Whether none was.
    pub const fn is_empty(&self) -> bool {
        self.filled == 0
    }

    /// All of the room, to be read into.
    pub(super) fn as_bytes_mut(&mut self) -> &mut [u8] {
        let (first, len) = (self.raw.as_mut_ptr().cast::<u8>(), size_of_val(&self.raw));
        // SAFETY: any bytes are a valid raw message, and the slice covers the array exactly.
        unsafe { core::slice::from_raw_parts_mut(first, len) }
    }

    /// Says how many bytes of the room hold messages now.
    pub(super) fn set_filled(&mut self, len_bytes: usize) {
        self.filled = (len_bytes / size_of::<RawMessage>()).min(MESSAGES_MAX);
    }

    /// The messages that were read last, in the kernel's order.
    pub fn messages(&self) -> impl Iterator<Item = Message> + '_ {
        self.raw[..self.filled].iter().filter_map(RawMessage::decode)
    }
}

impl Default for MessageBuffer {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(event: u8, words: [u64; 3]) -> Option<Message> {
        RawMessage { event, reserved: [0; 7], words }.decode()
    }

    #[test]
    fn each_event_is_decoded_by_its_own_words() {
        let fault = Message::Fault { address: 0x5000, write: true, write_protect: false, thread: 7 };
        assert_eq!(decoded(0x12, [1, 0x5000, 7]), Some(fault));
        let protected = Message::Fault { address: 0x5000, write: true, write_protect: true, thread: 0 };
        assert_eq!(decoded(0x12, [3, 0x5000, 0]), Some(protected));
        assert_eq!(decoded(0x13, [9, 0, 0]), Some(Message::Fork { fd: 9 }));
        assert_eq!(decoded(0x14, [1, 2, 3]), Some(Message::Remap { from: 1, to: 2, len: 3 }));
        assert_eq!(decoded(0x15, [1, 2, 3]), Some(Message::Remove { start: 1, end: 2 }));
        assert_eq!(decoded(0x16, [1, 2, 3]), Some(Message::Unmap { start: 1, end: 2 }));
        assert_eq!(decoded(0x17, [1, 2, 3]), None);
    }

    #[test]
    fn a_buffer_gives_only_what_was_read_last() {
        let mut buffer = MessageBuffer::new();
        buffer.as_bytes_mut().fill(0x15);
        assert_eq!(buffer.messages().count(), 0);
        buffer.set_filled(3 * 32 + 5);
        assert_eq!(buffer.messages().count(), 3);
        buffer.set_filled(usize::MAX);
        assert_eq!(buffer.messages().count(), MESSAGES_MAX);
    }
}
