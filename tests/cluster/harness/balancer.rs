//! One address in front of several: what a Service is to the API server.

use std::io::{self, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

/// A process behind the address.
pub struct Target {
    pub address: SocketAddr,
    /// Whether it is given new connections.
    pub ready: AtomicBool,
}

/// The processes behind an address, which change while it is served.
pub type Targets = Arc<Mutex<Vec<Arc<Target>>>>;

/// Hands each connection to the next of `targets` that is ready and accepts it; a connection that nobody accepts is closed.
pub fn balance(address: SocketAddr, targets: Targets) {
    let listener = TcpListener::bind(address)
        .unwrap_or_else(|error| panic!("{address} cannot be listened on: {error}"));
    thread::spawn(move || {
        for (round, client) in listener.incoming().enumerate() {
            let Ok(client) = client else { continue };
            let targets = targets.lock().unwrap().clone();
            let turn = targets.iter().cycle().skip(round % targets.len().max(1));
            let turn = turn.take(targets.len());
            let mut turn = turn.filter(|target| target.ready.load(Ordering::Relaxed));
            let target = turn.find_map(|target| TcpStream::connect(target.address).ok());
            if let Some(target) = target {
                join(client, target);
            }
        }
    });
}

/// Copies both ways until one side ends.
fn join(client: TcpStream, target: TcpStream) {
    let (Ok(from_client), Ok(from_target)) = (client.try_clone(), target.try_clone()) else {
        return;
    };
    thread::spawn(move || copy(from_client, target));
    thread::spawn(move || copy(from_target, client));
}

fn copy(mut from: TcpStream, mut to: TcpStream) {
    to.set_nodelay(true).ok();
    io::copy(&mut from, &mut to).ok();
    to.flush().ok();
    // A replica that was killed resets its connections; the other side learns of it at once.
    to.shutdown(Shutdown::Both).ok();
    from.shutdown(Shutdown::Both).ok();
}
