//! A process of its own, to be killed, counted or starved: [`dataserver_scenarios::process`].

fn main() {
    dataserver_scenarios::process::main();
}
