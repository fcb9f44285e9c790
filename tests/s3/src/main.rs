//! `bedplate-s3`: a server for tests in other languages. Prints its environment, one variable a line, and an empty line;
//! ends when its standard input does. `stop N` on that: it is gone after N more requests.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use bedplate_s3::Server;

fn main() {
    let server = Server::start();
    for (name, value) in server.environment() {
        println!("{name}={value}");
    }
    println!("BEDPLATE_TEST_OBJECTS={}", server.object("").display());
    println!();
    for line in std::io::stdin().lines().map_while(Result::ok) {
        if let Some(number) = line.strip_prefix("stop ") {
            server.stop_after(number.parse().unwrap());
            println!("stops");
        }
    }
}
