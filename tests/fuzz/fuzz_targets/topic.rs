#![no_main]
shardcast_fuzz::target!("topic");
