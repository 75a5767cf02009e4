//! All decisions of a shard: connections, rooms, outboxes, timers and policies, without I/O.
