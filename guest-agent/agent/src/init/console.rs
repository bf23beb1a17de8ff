//! Log lines of the VM: through the kernel's log, so that the console shows them in order with the kernel's own,
//! each with its time since power-on, and so that the last ones can be asked for.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::sync::Arc;

use tracing_subscriber::fmt::MakeWriter;

const KERNEL_LOG: &str = "/dev/kmsg";
/// The kernel cuts a record at about a kilobyte; more would be lost without a word.
const LONGEST: usize = 960;

/// Sends this process's log to the kernel's log.
pub(crate) fn start_logging() {
    // Every line of ours is to be there; kernel chatter below `notice` is kept, but not shown.
    let _ = fs::write("/proc/sys/kernel/printk_devkmsg", "on");
    let _ = fs::write("/proc/sys/kernel/printk", "6");
    if let Ok(log) = OpenOptions::new().write(true).open(KERNEL_LOG) {
        // A second call in one process keeps the first: there is nothing to report.
        let _ = tracing_subscriber::fmt()
            .with_writer(KernelLog(Arc::new(log)))
            .with_ansi(false)
            .without_time()
            .with_target(false)
            .with_max_level(tracing::Level::INFO)
            .try_init();
    }
}

/// The kernel log's last lines, the newest last.
pub(crate) fn tail(lines: usize) -> io::Result<Vec<String>> {
    let flags = rustix::fs::OFlags::NONBLOCK.bits() as i32;
    let mut log = OpenOptions::new().read(true).custom_flags(flags).open(KERNEL_LOG)?;
    let mut found = std::collections::VecDeque::new();
    let mut record = [0; 8192];
    loop {
        match log.read(&mut record) {
            Ok(0) => break,
            Ok(length) => {
                if found.len() == lines {
                    found.pop_front();
                }
                found.extend(readable(&String::from_utf8_lossy(&record[..length])));
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            // This record was overwritten while we came to it.
            Err(error) if error.raw_os_error() == Some(libc_epipe()) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found.into())
}

fn libc_epipe() -> i32 {
    rustix::io::Errno::PIPE.raw_os_error()
}

/// `6,339,5140900,-;text` as `[    5.140900] text`.
fn readable(record: &str) -> Option<String> {
    let (header, text) = record.split_once(';')?;
    let micros: u64 = header.split(',').nth(2)?.parse().ok()?;
    let text = text.lines().next().unwrap_or_default();
    Some(format!("[{:5}.{:06}] {text}", micros / 1_000_000, micros % 1_000_000))
}

#[derive(Clone)]
struct KernelLog(Arc<File>);

/// One line on its way: the kernel takes a record per write.
struct Line(Arc<File>, Vec<u8>);

impl<'a> MakeWriter<'a> for KernelLog {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line(Arc::clone(&self.0), b"<5>sampan:".to_vec())
    }
}

impl io::Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = LONGEST.saturating_sub(self.1.len());
        self.1.extend_from_slice(&bytes[..bytes.len().min(room)]);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let mut log: &File = &self.0;
        // A log that cannot be written has nowhere to say so.
        let _ = log.write_all(&self.1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_record_becomes_a_line_with_its_time() {
        let record = "6,339,5140900,-;virtio_blk virtio1: [vda]\n SUBSYSTEM=virtio\n";
        assert_eq!(readable(record).as_deref(), Some("[    5.140900] virtio_blk virtio1: [vda]"));
        assert_eq!(readable("no header"), None);
    }
}
