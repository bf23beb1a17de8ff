//! Servers that people run in containers, under the load of their own benchmark programs: stopped and
//! started, killed and recovered, with their data in volumes.

use harness::{Engine, Output, eventually, fixtures, require, settings};

const PACKAGES: [&str; 4] = ["postgresql-15", "redis-server", "nginx-light", "wrk"];

/// Where Debian puts the programs of PostgreSQL that are not meant for everybody.
const POSTGRES: &str = "/usr/lib/postgresql/15/bin";

fn available() -> Result<(), String> {
    Engine::available()?;
    settings::program("mmdebstrap").map(drop)
}

/// An engine with an image that has the servers, and a network on which containers know names.
fn engine_with_servers() -> Engine {
    let engine = Engine::start();
    engine.load(&fixtures::debian_with("servers", &PACKAGES).archive(&["servers"]).expect("an archive"));
    let _ = engine.docker(["network", "create", "lan"]).success();
    engine
}

/// Runs a client of the servers to its end, on their network.
fn client(engine: &Engine, script: &str) -> Output {
    engine.docker(["run", "--rm", "--network", "lan", "servers", "sh", "-c", script])
}

fn exec(engine: &Engine, container: &str, command: &[&str]) -> Output {
    engine.docker(["exec", container].into_iter().chain(command.iter().copied()))
}

fn wait_for_exec(engine: &Engine, container: &str, command: &[&str]) {
    eventually(&format!("{container} answers"), || {
        (exec(engine, container, command).code() == Some(0)).then_some(())
    });
}

#[test]
fn postgres_keeps_its_data_over_stop_kill_and_a_lost_engine() {
    require!(available());
    let engine = engine_with_servers();
    let serve = format!(
        "test -e $PGDATA/PG_VERSION || {POSTGRES}/initdb --auth trust --no-instructions >/dev/null
         echo 'host all all all trust' >>$PGDATA/pg_hba.conf
         exec {POSTGRES}/postgres -c listen_addresses='*'"
    );
    let run = ["run", "--detach", "--name", "db", "--network", "lan", "--user", "postgres"];
    let data = ["--volume", "data:/var/lib/postgresql", "--env", "PGDATA=/var/lib/postgresql/15/data"];
    let rest = [
        "--tmpfs",
        "/run/postgresql:mode=1777",
        "--shm-size",
        "128m",
        "--stop-signal",
        "SIGINT",
        "servers",
        "sh",
        "-c",
        &serve,
    ];
    let _ = engine.docker(run.into_iter().chain(data).chain(rest)).success();
    let answers = || wait_for_exec(&engine, "db", &["pg_isready", "--quiet"]);
    let query = |sql: &str| exec(&engine, "db", &["psql", "-qAt", "-c", sql]).success().line();
    answers();

    let load = format!("PGHOST=db PGUSER=postgres PGDATABASE=postgres {POSTGRES}/pgbench --no-vacuum");
    let _ = client(
        &engine,
        &format!("{load} --initialize --init-steps dtgvp --quiet --scale 2 && {load} -c 4 -T 3"),
    )
    .success();
    assert_eq!(query("select count(*) from pgbench_accounts"), "200000");
    let transactions = || query("select count(*) from pgbench_history").parse::<u64>().unwrap();
    let done = transactions();
    assert!(done > 0);

    let _ = engine.docker(["stop", "db"]).success();
    assert_eq!(engine.inspect("db")["State"]["ExitCode"], 0, "PostgreSQL heeds its fast shutdown signal");
    let _ = engine.docker(["start", "db"]).success();
    answers();
    assert_eq!(transactions(), done);

    // In the middle of the load: first the engine is lost, which the load must not notice, then the server.
    let loading = ["run", "--detach", "--name", "load", "--network", "lan", "servers", "sh", "-c"];
    let long = format!("exec env {load} -c 4 -T 600");
    let _ = engine.docker(loading.into_iter().chain([&*long])).success();
    eventually("the load goes on", || (transactions() > done).then_some(()));
    engine.kill_engine();
    let before = transactions();
    eventually("the load goes on", || (transactions() > before).then_some(()));
    let _ = engine.docker(["kill", "db"]).success();
    let _ = engine.docker(["wait", "load"]).success();
    let _ = engine.docker(["start", "db"]).success();
    answers();
    // A transaction moves the same sum in four tables: they agree after recovery.
    let sums = "select (select sum(abalance) from pgbench_accounts) = (select sum(tbalance) from pgbench_tellers)
                   and (select sum(delta) from pgbench_history) = (select sum(bbalance) from pgbench_branches)";
    assert_eq!(query(sums), "t");
    assert!(transactions() > before);
}

#[test]
fn redis_keeps_what_it_acknowledged_over_a_kill() {
    require!(available());
    let engine = engine_with_servers();
    let run = ["run", "--detach", "--name", "cache", "--network", "lan", "--volume", "cache:/data"];
    let server =
        ["servers", "redis-server", "--dir", "/data", "--appendonly", "yes", "--appendfsync", "always"];
    let open = ["--protected-mode", "no"];
    let _ = engine.docker(run.into_iter().chain(server).chain(open)).success();
    let answers = || wait_for_exec(&engine, "cache", &["redis-cli", "get", "anything"]);
    answers();
    let load = "redis-benchmark -h cache -q -n 20000 -c 20 -P 8 -t set,get,incr";
    let report = client(&engine, load).success().stdout();
    assert!(report.contains("requests per second"), "{report}");
    assert_eq!(exec(&engine, "cache", &["redis-cli", "set", "kept", "yes"]).success().line(), "OK");
    let _ = engine.docker(["kill", "cache"]).success();
    let _ = engine.docker(["start", "cache"]).success();
    answers();
    assert_eq!(exec(&engine, "cache", &["redis-cli", "get", "kept"]).success().line(), "yes");
}

#[test]
fn nginx_serves_under_load_reloads_and_leaves_gracefully() {
    require!(available());
    let engine = engine_with_servers();
    let run = ["run", "--detach", "--name", "web", "--network", "lan", "--publish", "8080:80"];
    let server = ["--stop-signal", "SIGQUIT", "servers", "nginx", "-g", "daemon off;"];
    let _ = engine.docker(run.into_iter().chain(server)).success();
    let page = || engine.sandbox().curl(["--fail", "http://127.0.0.1:8080/"]);
    eventually("the page comes", || page().stdout().contains("nginx").then_some(()));
    let report = client(&engine, "wrk -t 1 -c 20 -d 2s http://web/").success().stdout();
    assert!(report.contains("Requests/sec") && !report.contains("Socket errors"), "{report}");
    let _ = exec(&engine, "web", &["nginx", "-s", "reload"]).success();
    assert!(page().success().stdout().contains("nginx"));
    let _ = engine.docker(["stop", "web"]).success();
    assert_eq!(engine.inspect("web")["State"]["ExitCode"], 0);
}
