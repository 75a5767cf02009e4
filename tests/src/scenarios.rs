//! Tables of end-to-end tests that hold on every driver and with any number of shards.

use std::thread;

use shardcast::config::{Auto, Config, IoDriver};

use crate::server;

/// What happens on a server of its own, with its name.
pub type Scenario = (&'static str, fn(Config));

/// Carries out all of them at once, each with the configuration of a test: most of a scenario is waiting.
///
/// # Panics
/// When one fails.
pub fn run_all(scenarios: &[Scenario], io: IoDriver, shards: usize) {
    let mut config = server::config();
    config.server.io = io;
    config.server.shards = Auto::Fixed(shards);
    thread::scope(|scope| {
        for (name, scenario) in scenarios {
            let config = config.clone();
            let builder = thread::Builder::new().name((*name).to_owned());
            builder.spawn_scoped(scope, move || scenario(config)).expect("a thread");
        }
    });
}

/// Tests of a table of [`Scenario`]s on io_uring and epoll, with one shard and two.
#[macro_export]
macro_rules! run_everywhere {
    ($scenarios:expr) => {
        $crate::run_everywhere! {
            $scenarios;
            every_scenario_on_io_uring_and_one_shard: Uring, 1;
            every_scenario_on_io_uring_and_two_shards: Uring, 2;
            every_scenario_on_epoll_and_one_shard: Epoll, 1;
            every_scenario_on_epoll_and_two_shards: Epoll, 2;
        }
    };
    ($scenarios:expr; $($name:ident: $io:ident, $shards:literal;)+) => {
        $(
            #[test]
            fn $name() {
                $crate::scenarios::run_all($scenarios, ::shardcast::config::IoDriver::$io, $shards);
            }
        )+
    };
}
