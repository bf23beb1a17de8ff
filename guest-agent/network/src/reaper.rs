//! Removes links in the background.
//!
//! Removing a link waits until no processor can still see it: tens of milliseconds, during which nothing else about
//! links can change. So a container's end does not wait for it, and links that end together go together.

use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use sys::netlink::{Family, Request, Socket, link};

use crate::error::{NetworkError, Result, kernel};

/// Hands links to the thread that removes them; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Reaper(Sender<Job>);

#[derive(Debug)]
enum Job {
    Remove(String),
    /// Tells when everything handed over before is gone.
    Settle(Sender<()>),
}

impl Reaper {
    /// Starts the thread in the calling thread's namespace. `group` marks links about to go; it is this engine's own.
    pub(crate) fn start(group: u32) -> io::Result<Reaper> {
        let route = Socket::open(Family::Route)?;
        let (send, receive) = channel();
        let thread = thread::Builder::new().name("link-reaper".to_owned()).stack_size(128 * 1024);
        thread.spawn(move || reap(route, group, &receive))?;
        Ok(Reaper(send))
    }

    /// Has a link removed, soon.
    pub(crate) fn remove(&self, name: String) {
        // The thread lives as long as this sender.
        let _ = self.0.send(Job::Remove(name));
    }

    /// Waits until all links handed over are gone.
    pub(crate) fn settle(&self) {
        let (done, wait) = channel();
        if self.0.send(Job::Settle(done)).is_ok() {
            let _ = wait.recv();
        }
    }
}

fn reap(mut route: Socket, group: u32, jobs: &Receiver<Job>) {
    while let Ok(first) = jobs.recv() {
        let mut names = Vec::new();
        let mut waiting = Vec::new();
        for job in std::iter::once(first).chain(jobs.try_iter()) {
            match job {
                Job::Remove(name) => names.push(name),
                Job::Settle(done) => waiting.push(done),
            }
        }
        if let Err(error) = remove_all(&mut route, group, &names) {
            tracing::warn!(%error, "cannot remove links of ended endpoints");
        }
        for done in waiting {
            let _ = done.send(());
        }
    }
}

fn remove_all(route: &mut Socket, group: u32, names: &[String]) -> Result<()> {
    if let [name] = names {
        return remove(route, name);
    }
    for name in names {
        let mut request = Request::new();
        link::set_group(&mut request, name, group);
        // It is gone already when its namespace ended first.
        if let Err(error) = route.request(request)
            && error.errno() != libc::ENODEV
        {
            return Err(kernel(format!("mark link `{name}`"), error));
        }
    }
    let mut request = Request::new();
    link::delete_group(&mut request, group);
    match route.request(request) {
        Err(error) if !names.is_empty() && error.errno() != libc::ENODEV => {
            Err(kernel("remove links of ended endpoints", error))
        }
        _ => Ok(()),
    }
}

/// Removes a link; one that is gone already is no failure.
pub(crate) fn remove(route: &mut Socket, name: &str) -> std::result::Result<(), NetworkError> {
    let mut request = Request::new();
    link::delete(&mut request, name);
    match route.request(request) {
        Err(error) if error.errno() != libc::ENODEV => Err(kernel(format!("remove link `{name}`"), error)),
        _ => Ok(()),
    }
}
