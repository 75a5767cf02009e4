use std::fs;

use super::*;

fn scenario(text: &str) -> Result<Scenario, String> {
    let options: Options = toml::from_str(text).map_err(|error| error.message().to_owned())?;
    let mode = options.mode.expect("a mode");
    options.into_scenario(mode, 20_000).map_err(|error| error.to_string())
}

#[test]
fn a_file_with_nothing_but_its_mode_is_complete() {
    let fanout = scenario("mode = 'fanout'").expect("valid");
    let Work::Fanout(publications) = fanout.work else { panic!("not a fan-out") };
    assert_eq!(publications.pace, Pace::Closed { window: 1, burst: 1 });
    assert_eq!(
        (fanout.clients.connections, fanout.clients.rooms.as_slice()),
        (1000, &["loadgen-0".into()][..])
    );
    let idle = scenario("mode = 'idle'").expect("valid");
    let Work::Idle(work) = idle.work else { panic!("not idle") };
    assert_eq!((work.at, idle.clients.rooms_per_connection), (vec![0, 1000], 0));
}

#[test]
fn mistakes_are_named() {
    let table = [
        ("target = 'http://h'", "target = \"http://h\" does not start with ws://"),
        ("target = 'ws://127.0.0.1/ws'", "target = \"ws://127.0.0.1/ws\" does not name a host and a port"),
        ("publish = 'tcp://h'", "publish = \"tcp://h\" does not start with redis:// or http://"),
        ("connections = 0", "connections = 0 is out of bounds: 1 to 10000000"),
        ("rooms_per_connection = 2", "rooms_per_connection = 2 is out of bounds: 1 to 1"),
        (
            "size = [128, 16]",
            "size = 16 is out of bounds: 54 to 16777216, as the stamp that tells a publication from all others takes \
             54 bytes with its quotes",
        ),
        ("size = []", "size has 0 sizes: 1 to 64 are possible"),
        ("size = 'x'", "expected a number of bytes, or a list of such"),
        (
            "publish_to = 'user'\ndialect = 'raw'",
            "publish_to is of the ignis dialect: leave it out, or set dialect = \"ignis\"",
        ),
        (
            "exclude = 1\ndialect = 'topic'",
            "exclude is of the ignis dialect: leave it out, or set dialect = \"ignis\"",
        ),
        ("users = 5", "users is for publications to users, and publish_to = \"room\": leave one of them out"),
        (
            "publish_to = 'client'\nrooms = 5",
            "rooms is for publications to rooms, and publish_to = \"client\": leave one of them out",
        ),
        (
            "publish_to = 'user'\nexclude = 5",
            "exclude is for publications to rooms, and publish_to = \"user\": leave one of them out",
        ),
        ("publish_to = 'user'\nusers = 1001", "users = 1001 is out of bounds: 1 to 1000"),
        (
            "rooms = 3\nconnections = 8\nexclude = 2",
            "exclude = 2: room loadgen-2 has 2 members, and somebody has to be left in each",
        ),
        ("exclude = 10001", "exclude = 10001 is out of bounds: 0 to 10000"),
        (
            "exclude = 1\nrate = 5.0\nstorm_after = '5s'",
            "exclude names clients by their ids, and with storm_after clients come back with others: leave one of \
             them out",
        ),
        (
            "exclude = 1\npublish_body = '{data}'",
            "publish_body = \"{data}\" has no {exclude}: whom exclude leaves out would get everything",
        ),
        ("churn = -1.0", "churn = -1 is out of bounds: more than 0, at most 1000000"),
        ("slow_share = 1.5", "slow_share = 1.5 is out of bounds: 0 to 1"),
        (
            "churn = 5.0",
            "churn needs the open loop: set a rate, for a closed loop would wait for those who are away",
        ),
        ("send = ['x']", "send and ready are of the raw dialect: leave them out, or set dialect = \"raw\""),
        ("connections = 60000\nprocesses = 3", "processes = 3 is out of bounds: 4 to 1024"),
        ("rate = 0.0", "rate = 0 is out of bounds: more than 0, at most 10000000"),
        ("window = 2\nburst = 3", "burst = 3 is out of bounds: 1 to 2"),
        (
            "window = 2\nrate = 3.0",
            "window and burst are of the closed loop, rate is of the open one: leave one of them out",
        ),
        ("duration = '5'", "\"5\" is not a span: a number and ms, s, m or h, such as 500ms or 1.5s"),
    ];
    for (line, expected) in table {
        assert_eq!(scenario(&format!("mode = 'fanout'\n{line}")), Err(expected.to_owned()), "{line}");
    }
    let descending = scenario("mode = 'idle'\nat = [5, 5]");
    assert_eq!(descending, Err("at = [5, 5]: the numbers must rise".to_owned()));
    let unknown = scenario("mode = 'fanout'\nconections = 1").expect_err("an unknown key");
    assert!(unknown.starts_with("unknown field `conections`"), "{unknown}");
}

#[test]
fn a_connect_run_ends_by_its_attempts_or_its_time() {
    let connect = |text: &str| {
        let scenario = scenario(&format!("mode = 'connect'\n{text}")).expect("valid");
        let Work::Connect(plan) = scenario.work else { panic!("not a connect run") };
        (plan, scenario.clients.connections, scenario.clients.processes)
    };
    let (plan, connections, _) = connect("");
    assert_eq!((plan.attempts, plan.in_flight, plan.per_second, connections), (Some(1000), 64, None, 1000));
    assert_eq!((plan.duration, plan.goodbye), (None, None));
    let (plan, connections, processes) = connect("close = 'clean'\nconnections = 200000");
    assert_eq!((plan.attempts, plan.duration), (Some(200_000), None));
    assert_eq!((connections, processes), (64, 1), "no more open files than are in flight");
    let (plan, ..) = connect("close = 'reset'\nramp = 500");
    assert_eq!((plan.attempts, plan.duration), (None, Some(Duration::from_secs(5))));
    assert_eq!((plan.per_second, plan.in_flight, plan.span()), (Some(500.0), 1024, plan.duration));
    let (plan, ..) = connect("ramp = 500\nduration = '9s'");
    assert_eq!(plan.span(), Some(Duration::from_secs(2)), "a thousand are made by then");
    for (line, expected) in [
        ("churn = 5.0", "churn is about members who stay: leave it out of a connect run"),
        ("in_flight = 0", "in_flight = 0 is out of bounds: 1 to 10000000"),
    ] {
        assert_eq!(scenario(&format!("mode = 'connect'\n{line}")), Err(expected.to_owned()));
    }
    for (mode, metric) in [("connect", "missing"), ("fanout", "connects_per_second")] {
        let error =
            scenario(&format!("mode = '{mode}'\nrequire = ['{metric}<=5']")).expect_err("of another mode");
        assert!(
            error.starts_with(&format!("{metric} is no metric of such runs: require one of ")),
            "{error}"
        );
    }
}

#[test]
fn visitors_take_open_files_from_the_members() {
    for (visitors, processes) in [("", 1), ("visitors = 10.0", 2)] {
        let scenario = scenario(&format!("mode = 'fanout'\nconnections = 19900\n{visitors}")).expect("valid");
        assert_eq!(scenario.clients.processes, processes, "{visitors}");
    }
}

#[test]
fn flags_win_over_the_file_and_a_loop_replaces_the_other() {
    let file: Options =
        toml::from_str("mode = 'fanout'\nconnections = 5\nrate = 10.0\nsize = 200").expect("valid");
    let flags = Options { connections: Some(7), window: Some(3), ..Options::default() };
    let scenario = flags.over(file).into_scenario(Mode::Fanout, 20_000).expect("valid");
    let Work::Fanout(publications) = scenario.work else { panic!("not a fan-out") };
    assert_eq!((scenario.clients.connections, publications.sizes.as_slice()), (7, &[200][..]));
    assert_eq!(publications.pace, Pace::Closed { window: 3, burst: 1 });
}

#[test]
fn clients_and_users_are_rooms_of_known_members() {
    let table = [
        (
            "publish_to = 'client'\nconnections = 3",
            ["client 0", "client 1", "client 2"].as_slice(),
            [0, 1, 2],
        ),
        ("publish_to = 'user'\nconnections = 3", &["loadgen-0", "loadgen-1", "loadgen-2"], [0, 1, 2]),
        ("publish_to = 'user'\nusers = 2\nconnections = 3", &["loadgen-0", "loadgen-1"], [0, 1, 0]),
    ];
    for (lines, names, members) in table {
        let clients = scenario(&format!("mode = 'fanout'\n{lines}")).expect("valid").clients;
        assert_eq!(clients.rooms, names, "{lines}");
        let memberships = clients.memberships();
        assert_eq!(
            [0, 1, 2].map(|connection| memberships.rooms_of(connection)),
            members.map(|room| vec![room])
        );
    }
    let idle = scenario("mode = 'idle'\npublish_to = 'client'\nexclude = 5").expect("valid").clients;
    assert_eq!((idle.to, idle.rooms.len(), idle.exclude), (Address::Room, 1, 0), "nothing is published");
}

#[test]
fn sizes_are_a_number_or_a_list() {
    for (line, expected) in [("", &[128][..]), ("size = 200", &[200]), ("size = [54, 65536]", &[54, 65536])] {
        let Work::Fanout(work) = scenario(&format!("mode = 'fanout'\n{line}")).expect("valid").work else {
            panic!("not a fan-out")
        };
        assert_eq!(work.sizes.as_slice(), expected);
    }
}

#[test]
fn connections_are_shared_among_as_many_processes_as_their_files_ask_for() {
    for (connections, processes) in [(1, 1), (19_936, 1), (19_937, 2), (39_872, 2), (100_000, 6)] {
        let scenario = scenario(&format!("mode = 'fanout'\nconnections = {connections}")).expect("valid");
        assert_eq!(scenario.clients.processes, processes, "{connections} connections");
    }
}

#[test]
fn every_example_is_a_scenario() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios");
    let mut files = 0;
    for entry in fs::read_dir(folder).expect("the folder of examples") {
        let path = entry.expect("an entry").path();
        let text = fs::read_to_string(&path).expect("text");
        assert!(text.starts_with("# "), "{} does not say what it is for", path.display());
        let options = Options::read(path.clone()).unwrap_or_else(|error| panic!("{error}"));
        let mode = options.mode.expect("read checks that there is one");
        options.into_scenario(mode, 20_000).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        files += 1;
    }
    assert!(files > 0, "there are no examples in {folder}");
}
