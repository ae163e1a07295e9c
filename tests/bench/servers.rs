//! Servers and their clients on loopback, each with its own configuration.

use std::{
    fs,
    net::{Ipv4Addr, TcpStream},
    path::Path,
    process::Command,
};

use recorder_tests::{
    TestDirectory,
    figures::{Section, target},
    free_address, run, wait_until,
};

use crate::{
    load::{self, Load, Server},
    plan::Plan,
    quiet::Quiet,
};

/// Clients at the same time.
const CLIENTS: &str = "50";

fn wait_for_port(port: u16, log: &Path) {
    let what = format!("a server on port {port}, which logs to {}", log.display());
    wait_until(&what, || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok());
}

/// Redis: many small calls on few connections.
pub(crate) struct Redis {
    pub(crate) server: Server,
    port: u16,
}

impl Redis {
    pub(crate) fn start(directory: &TestDirectory) -> Redis {
        let (port, log) = (free_address().port(), directory.join("redis.log"));
        let place = directory.path().to_string_lossy().into_owned();
        let port_word = port.to_string();
        let arguments =
            ["--port", &port_word, "--bind", "127.0.0.1", "--save", "", "--dir", &place];
        let server = Server::start("redis-server", &arguments, log.clone());
        wait_for_port(port, &log);
        Redis { server, port }
    }

    /// Requests a second over as many of each of two commands.
    pub(crate) fn per_second(&self, requests: u64) -> f64 {
        let (port, requests) = (self.port.to_string(), requests.max(1_000).to_string());
        let mut command = Command::new("redis-benchmark");
        command.args(["-p", &port, "-c", CLIENTS, "-n", &requests, "-t", "set,get", "--csv"]);
        let outcome = run(&mut command).succeeded();
        let rates: Vec<f64> = outcome.text().lines().filter_map(csv_rate).collect();
        assert_eq!(rates.len(), 2, "redis-benchmark gives two rates:\n{}", outcome.text());
        rates.len() as f64 / rates.iter().map(|rate| rate.recip()).sum::<f64>()
    }
}

/// Measures it.
pub(crate) fn redis(plan: &Plan, directory: &TestDirectory, quiet: &mut Quiet) -> Section {
    let redis = Redis::start(directory);
    // So many that both commands together take as long as the plan wants.
    let requests = redis.per_second(20_000) * plan.load.as_secs_f64() / 2.0;
    let mut run = || redis.per_second(requests as u64);
    let mut load = Load {
        key: "redis",
        title: "redis, GET and SET on 50 connections",
        unit: "req/s",
        run: &mut run,
        density: target::DENSITY_SERVER,
    };
    load::measure(&mut load, plan, directory, quiet)
}

/// The second field of `"GET","123456.78",...`; the header has a word there.
fn csv_rate(line: &str) -> Option<f64> {
    line.split(',').nth(1)?.trim_matches('"').parse().ok()
}

/// nginx, and a page it has.
pub(crate) struct Nginx {
    pub(crate) server: Server,
    port: u16,
}

impl Nginx {
    pub(crate) fn start(directory: &TestDirectory) -> Nginx {
        let (port, log) = (free_address().port(), directory.join("nginx.log"));
        let config = directory.join("nginx.conf");
        fs::write(&config, nginx_config(directory, port)).expect("a configuration");
        let page = "0123456789abcde\n".repeat(64);
        fs::write(directory.join("page.html"), page).expect("a page");
        let config = config.to_string_lossy().into_owned();
        let error_log = directory.join("nginx-error.log").to_string_lossy().into_owned();
        let prefix = directory.path().to_string_lossy().into_owned();
        let arguments = ["-p", &prefix, "-e", &error_log, "-c", &config];
        let server = Server::start("nginx", &arguments, log.clone());
        wait_for_port(port, &log);
        Nginx { server, port }
    }

    /// Requests a second over so many seconds.
    pub(crate) fn per_second(&self, seconds: u64, more: &[&str]) -> f64 {
        let mut command = Command::new("wrk");
        command.args(["-t1", "-c", CLIENTS, "-d", &format!("{seconds}s")]).args(more);
        let outcome = run(command.arg(self.page())).succeeded();
        let text = outcome.text();
        assert!(!text.contains("Non-2xx"), "nginx has the page:\n{text}");
        let rate = crate::machine::field(text, "Requests/sec").and_then(|rate| rate.parse().ok());
        rate.unwrap_or_else(|| panic!("wrk gives a rate:\n{text}"))
    }

    fn page(&self) -> String {
        format!("http://127.0.0.1:{}/page.html", self.port)
    }
}

/// Measures it: with connections that stay, and with one for each request.
pub(crate) fn nginx(plan: &Plan, directory: &TestDirectory, quiet: &mut Quiet) -> Vec<Section> {
    let nginx = Nginx::start(directory);
    let seconds = plan.load.as_secs().max(1);
    let mut keep = || nginx.per_second(seconds, &[]);
    let mut keep_alive = Load {
        key: "nginx_keep_alive",
        title: "nginx, a file of 1 KiB, connections stay",
        unit: "req/s",
        run: &mut keep,
        density: target::DENSITY_SERVER,
    };
    let first = load::measure(&mut keep_alive, plan, directory, quiet);
    let mut close = || nginx.per_second(seconds, &["-H", "Connection: close"]);
    let mut close = Load {
        key: "nginx_close",
        title: "nginx, the same, a connection per request",
        unit: "req/s",
        run: &mut close,
        density: target::DENSITY_SERVER,
    };
    vec![first, load::measure(&mut close, plan, directory, quiet)]
}

/// One process, so that ending it ends all of it.
fn nginx_config(directory: &TestDirectory, port: u16) -> String {
    let place = directory.path().display();
    format!(
        "daemon off;\nmaster_process off;\nuser root;\npid {place}/nginx.pid;\n\
         events {{ worker_connections 1024; }}\n\
         http {{\n  access_log off;\n  sendfile on;\n  keepalive_requests 1000000000;\n  \
         client_body_temp_path {place}/body;\n  proxy_temp_path {place}/proxy;\n  \
         fastcgi_temp_path {place}/fastcgi;\n  uwsgi_temp_path {place}/uwsgi;\n  \
         scgi_temp_path {place}/scgi;\n  \
         server {{ listen 127.0.0.1:{port} backlog=1024; root {place}; }}\n}}\n"
    )
}
