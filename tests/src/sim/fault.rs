//! Deliberate faults: what a broken shard or driver could do, to see that the model notices.

use super::bytes::split_frames;
use super::rng::Rng;

/// One thing that goes wrong once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A frame is not written and counted as written.
    LoseFrame,
    /// A frame is written twice.
    RepeatFrame,
    /// Two frames of one write change places.
    SwapFrames,
    /// Two answers of the topic dialect that were written at once change places.
    SwapAnswers,
    /// A listening is settled and nobody hears of it.
    ForgetUnlisten,
    /// A frame is written to another client as well.
    StrayFrame,
    /// A letter is taken from the mailbox and not handled.
    LoseLetter,
    /// A letter is handled twice.
    RepeatLetter,
    /// A socket that takes bytes again is not spoken of.
    ForgetWritable,
    /// A connection that ended is not taken out of the directory.
    ForgetDown,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::LoseFrame,
        Self::RepeatFrame,
        Self::SwapFrames,
        Self::SwapAnswers,
        Self::ForgetUnlisten,
        Self::StrayFrame,
        Self::LoseLetter,
        Self::RepeatLetter,
        Self::ForgetWritable,
        Self::ForgetDown,
    ];

    /// What this fault makes of a write of whole frames; `None` when it has no use for it.
    pub(crate) fn distort(self, rng: &mut Rng, bytes: &[u8]) -> Option<Vec<u8>> {
        if bytes.starts_with(b"HTTP") {
            return None;
        }
        let mut frames = split_frames(bytes);
        let at = rng.below(frames.len());
        match self {
            Self::LoseFrame => {
                frames.remove(at);
            }
            Self::RepeatFrame => frames.insert(at, frames[at]),
            Self::SwapFrames => {
                let other = rng.below(frames.len());
                if frames[at] == frames[other] {
                    return None;
                }
                frames.swap(at, other);
            }
            Self::SwapAnswers => {
                let is_answer =
                    |frame: &[u8]| frame.get(2..).is_some_and(|text| text.starts_with(b"{\"action\""));
                let answers: Vec<_> = (0..frames.len()).filter(|&index| is_answer(frames[index])).collect();
                let different = answers.windows(2).find(|pair| frames[pair[0]] != frames[pair[1]])?;
                frames.swap(different[0], different[1]);
            }
            _ => return None,
        }
        Some(frames.concat())
    }
}
