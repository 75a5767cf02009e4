//! What one turn sends, and to whom, laid out once for all who get the same.
//!
//! A **feed** is the list of frames published to one room in this turn. What a connection gets in a turn is
//! a **path**: the sequence of feeds it follows, where it joined or left them, frames meant for it alone
//! and frames it is excluded from. Paths are nodes of a trie, so two connections in the same rooms share
//! their path, and with it the **burst**: the bytes of all its frames in order, written to each socket by
//! one send. Where connections agreed on permessage-deflate, a path whose frames have compressed forms has a second
//! burst, of those. Publishing costs nothing per member; a turn costs one step a member and touched room.
//!
//! Invariants: frames are numbered in the order the shard accepted them and a burst holds them in that
//! order; a frame is in a burst at most once; everything here lives for one turn except bursts that an
//! outbox still holds.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;

use crate::event::Forms;
use crate::ids::{SeededMap, seeded_map};
use crate::rooms::RoomIndex;

/// A frame of this turn, in the order of acceptance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FrameIndex(pub u32);

/// A room's frames of this turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FeedIndex(pub u32);

/// What a connection gets in this turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PathIndex(pub u32);

/// A burst of this turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BurstIndex(pub u32);

/// Nothing so far.
pub const ROOT: PathIndex = PathIndex(0);

/// One step of a path, in the order things happened to the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// Follows the feed to its end.
    Feed(FeedIndex),
    /// Joined the room when its feed had this many frames.
    Join(FeedIndex, u32),
    /// Left the room when its feed had this many frames.
    Leave(FeedIndex, u32),
    /// A frame for this connection.
    Direct(FrameIndex),
    /// A frame this connection does not get.
    Without(FrameIndex),
}

/// Whether a frame may be refused by a full outbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameKind {
    /// A message; the slow-consumer policy applies. Encrypted connections get it encrypted.
    Message,
    /// A message for one connection that is written as it is: what a client is told until it has its key, and what
    /// is encrypted already. The slow-consumer policy applies.
    Verbatim,
    /// What is left of a message that was encrypted for one connection and that its socket took in part: never refused,
    /// and no pong overtakes it. Nothing goes on before it has come to its end.
    Begun,
    /// A message that answers a request, where clients tell answers apart by their order: never refused, but a
    /// connection whose outbox is full by then ends.
    Reply,
    /// Pongs, pings, closes, refusals of a request: never refused.
    Control,
    /// The answer to an upgrade: never refused, and no pong overtakes it.
    Answer,
}

impl FrameKind {
    /// Whether it is a message.
    pub fn is_message(self) -> bool {
        matches!(self, Self::Message | Self::Verbatim | Self::Begun | Self::Reply)
    }

    /// Whether it may be left out while none of it is written.
    pub fn is_droppable(self) -> bool {
        matches!(self, Self::Message | Self::Verbatim)
    }
}

/// The bytes of some frames, in order. Shared by every connection that gets exactly these.
#[derive(Debug)]
pub struct Burst {
    /// Whole frames, back to back.
    pub bytes: Bytes,
    /// The frames: where each ends in `bytes`, and whether it may be refused.
    pub frames: Vec<(u32, FrameKind)>,
    /// Outbox entries that keep this burst alive.
    pub holders: Cell<u32>,
}

impl Burst {
    /// A burst of one frame.
    pub fn of_one(bytes: Bytes, kind: FrameKind) -> Self {
        let end = u32::try_from(bytes.len()).expect("a frame is shorter than 4 GiB");
        Self { bytes, frames: vec![(end, kind)], holders: Cell::new(0) }
    }

    /// How many of the frames are messages.
    pub fn message_count(&self) -> usize {
        self.message_count_from(0)
    }

    /// How many of the frames that end after byte `at` are messages.
    pub fn message_count_from(&self, at: u32) -> usize {
        self.frames[self.frame_at(at)..].iter().filter(|(_, kind)| kind.is_message()).count()
    }

    /// Index of the first frame that ends after byte `at`.
    pub fn frame_at(&self, at: u32) -> usize {
        self.frames.partition_point(|&(end, _)| end <= at)
    }

    /// Where frame `index` begins.
    pub fn start_of(&self, index: usize) -> u32 {
        if index == 0 { 0 } else { self.frames[index - 1].0 }
    }

    /// Whether any of the bytes from `from` up to `to` belong to a message.
    pub fn has_message_within(&self, from: u32, to: u32) -> bool {
        let frames = (self.frame_at(from)..self.frames.len()).take_while(|&index| self.start_of(index) < to);
        from < to && frames.into_iter().any(|index| self.frames[index].1.is_message())
    }
}

#[derive(Debug)]
struct Frame {
    plain: Bytes,
    deflated: Option<Arc<Bytes>>,
    kind: FrameKind,
}

impl Frame {
    fn form(&self, deflates: bool) -> &Bytes {
        match &self.deflated {
            Some(deflated) if deflates => deflated,
            _ => &self.plain,
        }
    }
}

#[derive(Debug)]
struct Feed {
    /// `None` once the room emptied.
    room: Option<RoomIndex>,
    frames: Vec<FrameIndex>,
}

#[derive(Debug)]
struct Node {
    parent: PathIndex,
    step: Step,
    /// For those who did not agree on permessage-deflate, and for those who did.
    bursts: [Option<BurstIndex>; 2],
}

/// Everything one turn has collected. Reused from turn to turn.
#[derive(Debug)]
pub struct Turn {
    frames: Vec<Frame>,
    feeds: Vec<Feed>,
    nodes: Vec<Node>,
    children: SeededMap<(PathIndex, Step), PathIndex>,
    /// The last transition taken: members of one room take the same one after another.
    last: Option<((PathIndex, Step), PathIndex)>,
    bursts: Vec<Rc<Burst>>,
    scratch: Layout,
}

/// Scratch of [`Turn::burst_of`].
#[derive(Debug, Default)]
struct Layout {
    steps: Vec<Step>,
    joined_at: Vec<(FeedIndex, u32)>,
    frames: Vec<FrameIndex>,
    without: Vec<FrameIndex>,
}

impl Turn {
    /// An empty turn, hashed under `seed`.
    pub fn new(seed: u64) -> Self {
        Self {
            frames: Vec::new(),
            feeds: Vec::new(),
            nodes: vec![Node { parent: ROOT, step: Step::Without(FrameIndex(u32::MAX)), bursts: [None; 2] }],
            children: seeded_map(seed),
            last: None,
            bursts: Vec::new(),
            scratch: Layout::default(),
        }
    }

    /// Takes a frame in that has no compressed form; the next number is its place in the order of the turn.
    pub fn add_frame(&mut self, plain: Bytes, kind: FrameKind) -> FrameIndex {
        self.push_frame(Frame { plain, deflated: None, kind })
    }

    /// The same for a message that was published.
    pub fn add_message(&mut self, message: Forms) -> FrameIndex {
        let Forms { plain, deflated } = message;
        self.push_frame(Frame { plain, deflated, kind: FrameKind::Message })
    }

    fn push_frame(&mut self, frame: Frame) -> FrameIndex {
        let index = FrameIndex(u32::try_from(self.frames.len()).expect("a turn is bounded"));
        self.frames.push(frame);
        index
    }

    /// Opens the feed of a room that has none in this turn.
    pub fn open_feed(&mut self, room: RoomIndex) -> FeedIndex {
        let index = FeedIndex(u32::try_from(self.feeds.len()).expect("a turn is bounded"));
        self.feeds.push(Feed { room: Some(room), frames: Vec::new() });
        index
    }

    /// Publishes a frame to a feed.
    pub fn feed(&mut self, feed: FeedIndex, frame: FrameIndex) {
        self.feeds[feed.0 as usize].frames.push(frame);
    }

    /// How many frames the feed has.
    pub fn feed_len(&self, feed: FeedIndex) -> u32 {
        self.feeds[feed.0 as usize].frames.len() as u32
    }

    /// The room emptied: nobody follows the feed to its end.
    pub fn orphan_feed(&mut self, feed: FeedIndex) {
        self.feeds[feed.0 as usize].room = None;
    }

    /// The feeds of this turn with the rooms that follow them.
    pub fn feeds(&self) -> impl Iterator<Item = (FeedIndex, RoomIndex)> {
        self.feeds.iter().enumerate().filter_map(|(i, f)| f.room.map(|room| (FeedIndex(i as u32), room)))
    }

    /// The path that continues `path` by `step`.
    pub fn extend(&mut self, path: PathIndex, step: Step) -> PathIndex {
        let key = (path, step);
        if let Some((last, child)) = self.last
            && last == key
        {
            return child;
        }
        let next = PathIndex(u32::try_from(self.nodes.len()).expect("a turn is bounded"));
        // A frame for one connection leads to a path nobody else takes: not worth an entry.
        let child = match step {
            Step::Direct(_) | Step::Without(_) => next,
            Step::Feed(_) | Step::Join(..) | Step::Leave(..) => *self.children.entry(key).or_insert(next),
        };
        if child == next {
            self.nodes.push(Node { parent: path, step, bursts: [None; 2] });
        }
        self.last = Some((key, child));
        child
    }

    /// The burst of a path, laid out at the first call; `None` when the path leads to nothing. `deflates`: for a
    /// connection that agreed on permessage-deflate.
    pub fn burst_of(&mut self, path: PathIndex, deflates: bool) -> Option<BurstIndex> {
        if path == ROOT {
            return None;
        }
        if let Some(burst) = self.nodes[path.0 as usize].bursts[usize::from(deflates)] {
            return Some(burst);
        }
        self.lay_out(path);
        let chosen = &self.scratch.frames;
        if chosen.is_empty() {
            return None;
        }
        // All plain is the burst of everyone.
        let form = deflates && chosen.iter().any(|frame| self.frames[frame.0 as usize].deflated.is_some());
        let made = self.nodes[path.0 as usize].bursts[usize::from(form)];
        let index = made.unwrap_or_else(|| {
            let burst = self.concatenate(form);
            self.bursts.push(Rc::new(burst));
            BurstIndex((self.bursts.len() - 1) as u32)
        });
        let bursts = &mut self.nodes[path.0 as usize].bursts;
        bursts[usize::from(form)] = Some(index);
        bursts[usize::from(deflates)] = Some(index);
        Some(index)
    }

    /// A burst of this turn.
    pub fn burst(&self, index: BurstIndex) -> &Rc<Burst> {
        &self.bursts[index.0 as usize]
    }

    /// Forgets everything; bursts that outboxes hold live on there.
    pub fn clear(&mut self) {
        self.frames.clear();
        self.feeds.clear();
        self.nodes.truncate(1);
        self.children.clear();
        self.last = None;
        self.bursts.clear();
    }

    /// Collects the frames of a path into `scratch.frames`, in order.
    fn lay_out(&mut self, path: PathIndex) {
        let Layout { steps, joined_at, frames, without } = &mut self.scratch;
        for list in [&mut *frames, &mut *without] {
            list.clear();
        }
        steps.clear();
        joined_at.clear();
        let mut at = path;
        while at != ROOT {
            let node = &self.nodes[at.0 as usize];
            steps.push(node.step);
            at = node.parent;
        }
        for &step in steps.iter().rev() {
            match step {
                Step::Direct(frame) => frames.push(frame),
                Step::Without(frame) => without.push(frame),
                Step::Join(feed, count) => {
                    joined_at.retain(|&(f, _)| f != feed);
                    joined_at.push((feed, count));
                }
                Step::Feed(feed) | Step::Leave(feed, _) => {
                    let all = &self.feeds[feed.0 as usize].frames;
                    let from = joined_at.iter().find(|&&(f, _)| f == feed).map_or(0, |&(_, count)| count);
                    let to = if let Step::Leave(_, count) = step { count as usize } else { all.len() };
                    frames.extend_from_slice(&all[from as usize..to]);
                }
            }
        }
        frames.sort_unstable();
        frames.dedup();
        if !without.is_empty() {
            frames.retain(|frame| !without.contains(frame));
        }
    }

    fn concatenate(&self, deflates: bool) -> Burst {
        let chosen = &self.scratch.frames;
        if let [one] = chosen[..] {
            let frame = &self.frames[one.0 as usize];
            return Burst::of_one(frame.form(deflates).clone(), frame.kind);
        }
        let len = chosen.iter().map(|f| self.frames[f.0 as usize].form(deflates).len()).sum();
        let mut bytes = Vec::with_capacity(len);
        let mut frames = Vec::with_capacity(chosen.len());
        for frame in chosen {
            let frame = &self.frames[frame.0 as usize];
            bytes.extend_from_slice(frame.form(deflates));
            frames.push((u32::try_from(bytes.len()).expect("a turn is bounded to 4 GiB"), frame.kind));
        }
        Burst { bytes: Bytes::from(bytes), frames, holders: Cell::new(0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(turn: &mut Turn, path: PathIndex) -> String {
        texts_for(turn, path, false)
    }

    fn texts_for(turn: &mut Turn, path: PathIndex, deflates: bool) -> String {
        let Some(burst) = turn.burst_of(path, deflates) else { return String::new() };
        String::from_utf8(turn.burst(burst).bytes.to_vec()).expect("text")
    }

    fn add(turn: &mut Turn, text: &'static str) -> FrameIndex {
        turn.add_frame(Bytes::from_static(text.as_bytes()), FrameKind::Message)
    }

    #[test]
    fn members_of_the_same_rooms_share_one_burst_in_order_of_acceptance() {
        let mut turn = Turn::new(1);
        let (r, s) = (turn.open_feed(RoomIndex(0)), turn.open_feed(RoomIndex(1)));
        for (feed, text) in [(r, "a"), (s, "b"), (r, "c")] {
            let frame = add(&mut turn, text);
            turn.feed(feed, frame);
        }
        let both = |turn: &mut Turn| {
            let path = turn.extend(ROOT, Step::Feed(r));
            turn.extend(path, Step::Feed(s))
        };
        let (one, other) = (both(&mut turn), both(&mut turn));
        assert_eq!(one, other);
        assert_eq!(texts(&mut turn, one), "abc");
        let only_r = turn.extend(ROOT, Step::Feed(r));
        assert_eq!(texts(&mut turn, only_r), "ac");
        assert_eq!(turn.bursts.len(), 2);
    }

    #[test]
    fn those_who_deflate_share_a_burst_of_compressed_forms_and_the_plain_one_without_any() {
        let form = |text: &'static str| Bytes::from_static(text.as_bytes());
        let mut turn = Turn::new(1);
        let (r, s) = (turn.open_feed(RoomIndex(0)), turn.open_feed(RoomIndex(1)));
        for (feed, plain, deflated) in [(r, "a", Some("A")), (s, "b", None), (r, "c", None)] {
            let deflated = deflated.map(|text| Arc::new(form(text)));
            let frame = turn.add_message(Forms { plain: form(plain), deflated });
            turn.feed(feed, frame);
        }
        let only_r = turn.extend(ROOT, Step::Feed(r));
        let only_s = turn.extend(ROOT, Step::Feed(s));
        for (path, plain, deflated) in [(only_r, "ac", "Ac"), (only_s, "b", "b")] {
            for _ in 0..2 {
                assert_eq!(texts_for(&mut turn, path, true), deflated);
                assert_eq!(texts_for(&mut turn, path, false), plain);
            }
        }
        assert_eq!(turn.bursts.len(), 3, "two of the first path, one of the second");
    }

    #[test]
    fn only_the_bytes_of_messages_count_as_a_message() {
        use FrameKind::{Control, Message};
        let frames = vec![(2, Control), (5, Message), (7, Control)];
        let burst = Burst { bytes: Bytes::from_static(b"ccmmmcc"), frames, holders: Cell::new(0) };
        for (from, to, has_message) in [
            (0, 0, false),
            (0, 2, false),
            (0, 3, true),
            (0, 7, true),
            (3, 4, true),
            (4, 5, true),
            (5, 7, false),
            (7, 7, false),
        ] {
            assert_eq!(burst.has_message_within(from, to), has_message, "{from} to {to}");
        }
    }

    #[test]
    fn joining_and_leaving_within_a_turn_cuts_the_feed() {
        let mut turn = Turn::new(1);
        let feed = turn.open_feed(RoomIndex(0));
        for text in ["a", "b", "c", "d", "e"] {
            let frame = add(&mut turn, text);
            turn.feed(feed, frame);
        }
        let cases: [(&[Step], &str); 5] = [
            (&[Step::Leave(feed, 2)], "ab"),
            (&[Step::Join(feed, 3), Step::Feed(feed)], "de"),
            (&[Step::Join(feed, 1), Step::Leave(feed, 3)], "bc"),
            (&[Step::Leave(feed, 1), Step::Join(feed, 4), Step::Feed(feed)], "ae"),
            (&[Step::Leave(feed, 0)], ""),
        ];
        for (steps, want) in cases {
            let path = steps.iter().fold(ROOT, |path, &step| turn.extend(path, step));
            assert_eq!(texts(&mut turn, path), want, "{steps:?}");
        }
    }

    #[test]
    fn direct_and_excluded_frames_keep_their_place() {
        let mut turn = Turn::new(1);
        let feed = turn.open_feed(RoomIndex(0));
        let a = add(&mut turn, "a");
        turn.feed(feed, a);
        let mine = add(&mut turn, "!");
        let b = add(&mut turn, "b");
        turn.feed(feed, b);
        let path = turn.extend(ROOT, Step::Direct(mine));
        let path = turn.extend(path, Step::Without(b));
        let path = turn.extend(path, Step::Feed(feed));
        assert_eq!(texts(&mut turn, path), "a!");
    }
}
