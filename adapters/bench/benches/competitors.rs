//! The blocking adapter compared with other programs for the same task, if they are installed.
//!
//! `cargo bench -p dataserver-bench --bench competitors` runs all parts, and `-- files sessions` only these two.
//! With `BENCH_QUICK=1` it is fast, with results not comparable.

mod std_subject;

use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use dataserver_bench::baseline::{Baseline, Files, Structure};
use dataserver_bench::competitors::{Program, find, free_address, nginx, run};
use dataserver_bench::cpu::Cpu;
use dataserver_bench::measure::{Effort, Samples, alternate, is_selected, seconds};
use dataserver_bench::report::{Report, Row, Target};
use dataserver_bench::server_process::{ServerProcess, transfer_command};
use dataserver_bench::temp_files::TempFiles;
use dataserver_bench::{End, Format, Job, Subject, server_process};
use dataserver_std::Direction;
use std_subject::Std;

fn main() -> io::Result<()> {
    server_process::run_child(&Std)?;
    let effort = Effort::from_env();
    let mut report = Report::new("competitors", effort.rounds);
    let parts: [(&str, Part); 4] =
        [("files", large_files), ("memory", memory), ("small", small), ("sessions", sessions)];
    for (_, run) in parts.into_iter().filter(|(name, _)| is_selected(name)) {
        run(&mut report, effort)?;
    }
    report.finish()
}

type Part = fn(&mut Report, Effort) -> io::Result<()>;

const FILE: u64 = 1 << 29;

/// A program that transfers the source to the sink: its name, its target and how to run it.
type Competitor<'a> = (String, Target, Box<dyn Fn() -> io::Result<()> + 'a>);

/// One command for each transfer of the same file. The sink is a new file each time.
fn large_files(report: &mut Report, effort: Effort) -> io::Result<()> {
    report.begin("from a large file to a file, one command for each transfer");
    let files = TempFiles::new(FILE / u64::from(effort.scale_divisor))?;
    let (source, sink) = (files.source(), files.sink());
    let job = |direction| Job {
        source: End::File(source.clone()),
        sink: End::File(sink.clone()),
        ..Job::new(direction, FILE / u64::from(effort.scale_divisor))
    };
    let at_least = Target::AtLeast(1.2);

    for direction in [Direction::Put, Direction::Get] {
        let mut running = Vec::new();
        let mut programs: Vec<Competitor<'_>> = Vec::new();

        const IO_COPY: Baseline = Baseline::new(Files::IoCopy);
        let io_copy: &dyn Subject = &IO_COPY;
        let subjects =
            [("dataserver-std", &Std as &dyn Subject), ("std::io::copy, plain sockets", io_copy)];
        let servers = subjects.map(|(_, subject)| ServerProcess::start(subject, &job(direction)));
        let servers = servers.into_iter().collect::<io::Result<Vec<_>>>()?;
        for ((name, subject), server) in subjects.into_iter().zip(&servers) {
            let (job, address) = (job(direction), server.address()?);
            let act = move || run(&mut transfer_command(subject, &job, address)?).map(drop);
            programs.push((name.to_owned(), Target::None, Box::new(act)));
        }
        if let (Some(nginx_), Some(curl)) = (find("nginx"), find("curl")) {
            let address = free_address()?;
            running.push(nginx(&nginx_, &files.directory, address)?);
            let (source, sink) = (&source, &sink);
            let act = move || {
                let mut command = Command::new(&curl);
                command.args(["--silent", "--show-error", "--fail"]);
                match direction {
                    Direction::Put => {
                        let url = format!("http://{address}/sink");
                        command.arg("--upload-file").arg(source).args(["-H", "Expect:", &url])
                    }
                    Direction::Get => {
                        let url = format!("http://{address}/source");
                        command.arg("--output").arg(sink).arg(url)
                    }
                };
                run(&mut command).map(drop)
            };
            programs.push(("nginx + curl".to_owned(), at_least, Box::new(act)));
        }
        if let Some(socat) = find("socat") {
            let address = free_address()?;
            let open = |path: &Path| format!("OPEN:{},creat", path.display());
            let listen = format!("TCP-LISTEN:{},bind=127.0.0.1,reuseaddr,fork", address.port());
            let connect = format!("TCP:{address}");
            let (server, client) = match direction {
                Direction::Put => ([listen, open(&sink)], [open(&source), connect]),
                Direction::Get => ([open(&source), listen], [connect, open(&sink)]),
            };
            let mut serve = Command::new(&socat);
            match direction {
                Direction::Put => serve.args(["-u", "-b", "1048576"]).args(&server),
                // With `fork`, the listener must be the first address.
                Direction::Get => {
                    serve.args(["-U", "-b", "1048576"]).args([&server[1], &server[0]])
                }
            };
            running.push(Program::listening(&mut serve, address)?);
            let act = move || {
                run(Command::new(&socat).args(["-u", "-b", "1048576"]).args(&client)).map(drop)
            };
            programs.push(("socat, 1 MiB blocks".to_owned(), at_least, Box::new(act)));
        }

        let rates = alternate(effort.rounds, programs.len(), |program| {
            _ = fs::remove_file(&sink);
            let bytes = FILE / u64::from(effort.scale_divisor);
            let seconds = seconds(|| {
                programs[program].2()?;
                // The sender of socat does not wait for its receiver.
                while fs::metadata(&sink).map_or(0, |sink| sink.len()) < bytes {
                    thread::sleep(Duration::from_micros(100));
                }
                Ok(())
            })?;
            Ok(bytes as f64 / 1e9 / seconds)
        })?;
        let mut rates = rates.into_iter().map(Samples::from_iter);
        let Some(ours) = rates.next() else { continue };
        for ((baseline, target, _), theirs) in programs.iter().skip(1).zip(rates) {
            report.add(Row {
                what: format!(
                    "{direction}, {} MiB",
                    (FILE / u64::from(effort.scale_divisor)) >> 20
                ),
                baseline: baseline.clone(),
                label: "the other program",
                unit: "GB/s",
                ours: ours.clone(),
                theirs,
                target: *target,
            });
        }
    }
    Ok(())
}

/// Compared with iperf3, which reports its rate.
fn memory(report: &mut Report, effort: Effort) -> io::Result<()> {
    report.begin("1 GiB from memory to memory");
    let Some(iperf3) = find("iperf3") else { return Ok(()) };
    let address = free_address()?;
    let port = address.port().to_string();
    let mut serve = Command::new(&iperf3);
    let _running =
        Program::listening(serve.args(["--server", "--bind", "127.0.0.1", "-p", &port]), address)?;
    let bytes = (1 << 30) / u64::from(effort.scale_divisor);
    let job = Job { buffer: 1 << 20, ..Job::new(Direction::Put, bytes) };
    let server = ServerProcess::start(&Std, &job)?;

    let iperf = |more: &[&str]| -> io::Result<f64> {
        let mut command = Command::new(&iperf3);
        command.args(["--client", "127.0.0.1", "--json", "-p", &port, "-n", &bytes.to_string()]);
        let output: serde_json::Value = serde_json::from_str(&run(command.args(more))?)?;
        let bits = output["end"]["sum_received"]["bits_per_second"].as_f64();
        bits.map(|bits| bits / 8e9).ok_or_else(|| io::Error::other("iperf3 reports no rate"))
    };
    // The server is busy until it notices that the connection of `listening` has ended.
    let mut tries = 0..20;
    while iperf(&[]).is_err() && tries.next().is_some() {
        thread::sleep(Duration::from_millis(100));
    }
    let rates = alternate(effort.rounds, 3, |index| match index {
        0 => {
            let seconds = seconds(|| Std.transfer(server.address()?, &job))?;
            Ok(bytes as f64 / 1e9 / seconds)
        }
        1 => iperf(&[]),
        _ => iperf(&["--zerocopy"]),
    })?;
    let rates: Vec<Samples> = rates.into_iter().map(Samples::from_iter).collect();
    for (baseline, theirs) in ["iperf3", "iperf3 -Z"].into_iter().zip(&rates[1..]) {
        report.add(Row {
            what: "put".to_owned(),
            baseline: baseline.to_owned(),
            label: "iperf3",
            unit: "GB/s",
            ours: rates[0].clone(),
            theirs: theirs.clone(),
            target: Target::AtLeast(1.0),
        });
    }
    Ok(())
}

/// Gets of 1 KiB with a connection for each, 64 at a time. The client of nginx is wrk, with one thread. The
/// client of dataserver is the baseline with epoll on one thread.
fn small(report: &mut Report, effort: Effort) -> io::Result<()> {
    report.begin("1 KiB gets with a connection for each, 64 at a time");
    let (Some(nginx_), Some(wrk)) = (find("nginx"), find("wrk")) else { return Ok(()) };
    let files = TempFiles::new(0)?;
    fs::write(files.directory.join("small"), [7; 1024])?;
    let address = free_address()?;
    let running = nginx(&nginx_, &files.directory, address)?;
    let job = Job::new(Direction::Get, 1024);
    let server = ServerProcess::start(&Std, &job)?;
    let client = Baseline::concurrent(Structure::Epoll(1));
    let time = Duration::from_secs(1);

    let url = format!("http://{address}/small");
    let measure = |index: usize| {
        let cpu = || -> io::Result<Cpu> { if index == 0 { server.cpu() } else { running.cpu() } };
        let before = cpu()?;
        let mut done = 0.0;
        let seconds = seconds(|| {
            done = match index {
                0 => client.transfer_concurrently(server.address()?, &job, 64, time)? as f64,
                _ => wrk_requests(&wrk, &url, &["-H", "Connection: close"])?,
            };
            Ok(())
        })?;
        Ok((done / seconds, (cpu()? - before).total() / done * 1e6))
    };
    let measured = alternate(effort.rounds, 2, measure)?;
    let [ours, theirs] = &measured[..] else { return Ok(()) };
    let row = |unit, part: fn(&(f64, f64)) -> f64, target| Row {
        what: "get, server".to_owned(),
        baseline: "nginx, two workers, with wrk".to_owned(),
        label: "nginx",
        unit,
        ours: ours.iter().map(part).collect(),
        theirs: theirs.iter().map(part).collect(),
        target,
    };
    report.add(row("per second", |(rate, _)| *rate, Target::AtLeast(1.0)));
    report.add(row("CPU µs each", |(_, cpu)| *cpu, Target::AtMost(0.9)));
    Ok(())
}

/// How many requests wrk does in a second over 64 connections, on one thread.
fn wrk_requests(wrk: &Path, url: &str, more: &[&str]) -> io::Result<f64> {
    let output = run(Command::new(wrk).args(["-t", "1", "-c", "64", "-d", "1", url]).args(more))?;
    // "  20500 requests in 1.00s, 25.1MB read"
    let line = output.lines().find(|line| line.contains(" requests in "));
    let count = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    count.ok_or_else(|| io::Error::other(format!("wrk reports no number of requests: {output}")))
}

/// 1 KiB objects over 64 connections that are kept: sessions of dataserver, HTTP keep-alive, and Redis.
fn sessions(report: &mut Report, effort: Effort) -> io::Result<()> {
    report.begin("1 KiB objects, 64 connections that are kept");
    let time = Duration::from_secs(1) / effort.scale_divisor;
    let session = |direction| {
        let job = Job::new(direction, 1024).format(Format::Session);
        ServerProcess::start(&Std, &job).map(|server| (server, job))
    };
    let rate_of_session = |(server, job): &(ServerProcess, Job)| {
        let begin = Instant::now();
        let done = Std.transfer_concurrently(server.address()?, job, 64, time)?;
        Ok(done as f64 / begin.elapsed().as_secs_f64())
    };
    let (put, get) = (session(Direction::Put)?, session(Direction::Get)?);
    let row = |what: &str, baseline: &str, rates: Vec<Vec<f64>>| {
        let mut rates = rates.into_iter().map(Samples::from_iter);
        Row {
            what: what.to_owned(),
            baseline: baseline.to_owned(),
            label: "the other program",
            unit: "per second",
            ours: rates.next().unwrap_or_default(),
            theirs: rates.next().unwrap_or_default(),
            target: Target::AtLeast(1.0),
        }
    };

    if let (Some(nginx_), Some(wrk)) = (find("nginx"), find("wrk")) {
        let files = TempFiles::new(0)?;
        fs::write(files.directory.join("small"), [7; 1024])?;
        let address = free_address()?;
        let _running = nginx(&nginx_, &files.directory, address)?;
        let url = format!("http://{address}/small");
        let rates = alternate(effort.rounds, 2, |index| match index {
            0 => rate_of_session(&get),
            _ => wrk_requests(&wrk, &url, &[]),
        })?;
        report.add(row("get", "nginx with keep-alive, two workers, with wrk", rates));
    }
    if let (Some(server), Some(bench)) = (find("redis-server"), find("redis-benchmark")) {
        let address = free_address()?;
        let port = address.port().to_string();
        let mut serve = Command::new(server);
        serve.args(["--bind", "127.0.0.1", "--save", "", "--port", &port]);
        let _running = Program::listening(&mut serve, address)?;
        for (what, session, command) in [("put", &put, "set"), ("get", &get, "get")] {
            let rates = alternate(effort.rounds, 2, |index| match index {
                0 => rate_of_session(session),
                _ => redis_requests(&bench, &port, command, effort),
            })?;
            report.add(row(
                what,
                &format!("Redis {}, redis-benchmark", command.to_uppercase()),
                rates,
            ));
        }
    }
    Ok(())
}

/// How many of these commands redis-benchmark does in a second over 64 connections, with values of 1 KiB.
fn redis_requests(bench: &Path, port: &str, command: &str, effort: Effort) -> io::Result<f64> {
    let count = (50_000 / effort.scale_divisor).to_string();
    let mut benchmark = Command::new(bench);
    benchmark.args(["-p", port, "-c", "64", "-d", "1024", "-n", &count, "-t", command, "--csv"]);
    let output = run(&mut benchmark)?;
    // "SET","57143.00","0.5","0.2"
    let line =
        output.lines().find(|line| line.to_lowercase().starts_with(&format!("\"{command}\"")));
    let rate = line.and_then(|line| line.split('"').nth(3)?.parse().ok());
    rate.ok_or_else(|| io::Error::other(format!("redis-benchmark reports no rate: {output}")))
}
