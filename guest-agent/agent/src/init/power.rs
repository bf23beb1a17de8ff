//! The end: nothing runs, nothing is mounted, the power is off. And the button that asks for it.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::Path;

use rustix::mount::{MountFlags, UnmountFlags, mount_remount, unmount};
use rustix::process::Signal;
use rustix::system::{RebootCommand, reboot};

/// Ends every process but this one, writes everything to disk and switches the machine off.
pub(crate) fn off() {
    let _ = fs::create_dir_all("/run");
    kill_everything();
    let data = Path::new(super::DATA);
    rustix::fs::sync();
    for target in mounts_below(data, &fs::read_to_string("/proc/self/mounts").unwrap_or_default()) {
        if let Err(error) = unmount(target.as_str(), UnmountFlags::empty()) {
            tracing::warn!(%error, "cannot unmount `{target}`");
            let _ = unmount(target.as_str(), UnmountFlags::DETACH);
        }
    }
    // Had the disk not come off, this still leaves it clean.
    let _ = mount_remount(data, MountFlags::RDONLY, "");
    rustix::fs::sync();
    tracing::info!("power off at {} ms", super::record::uptime_ms());
    let _ = reboot(RebootCommand::PowerOff);
}

fn kill_everything() {
    // The number −1 means every process but the first. There is nobody left to report a failure to.
    let _ = sys::signal::send(-1, Signal::KILL.as_raw());
    while let Ok(Some(_)) = sys::process::reap_blocking() {}
}

/// The mount points at and below `top`, the innermost first, from the text of `/proc/self/mounts`.
fn mounts_below(top: &Path, table: &str) -> Vec<String> {
    let mut found: Vec<String> = table
        .lines()
        .filter_map(|line| line.split(' ').nth(1))
        .filter(|target| Path::new(target).starts_with(top))
        .map(str::to_owned)
        .collect();
    found.reverse();
    found
}

/// Watches every input device for the power button and calls `pressed` for each press. Blocks for ever, once a
/// device is there; returns when there is none.
pub(crate) fn watch_button(pressed: impl Fn() + Send + Clone + 'static) {
    let Ok(devices) = fs::read_dir("/dev/input") else { return };
    let events = devices.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with("event"));
    let watchers: Vec<_> = events
        .filter_map(|entry| File::open(entry.path()).ok())
        .map(|device| {
            let pressed = pressed.clone();
            std::thread::spawn(move || watch_device(device, &pressed))
        })
        .collect();
    for watcher in watchers {
        let _ = watcher.join();
    }
}

fn watch_device(mut device: File, pressed: &impl Fn()) {
    // struct input_event on 64-bit machines: 16 bytes of time, then type, code and value.
    let mut event = [0; 24];
    while device.read_exact(&mut event).is_ok() {
        if is_power_key(&event) {
            pressed();
        }
    }
}

fn is_power_key(event: &[u8; 24]) -> bool {
    const EV_KEY: u16 = 1;
    const KEY_POWER: u16 = 116;
    let half = |at: usize| u16::from_ne_bytes([event[at], event[at + 1]]);
    half(16) == EV_KEY && half(18) == KEY_POWER && event[20..24] == 1i32.to_ne_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inner_mounts_come_off_first_and_others_stay() {
        let table = "a / tmpfs rw 0 0\nb /data ext4 rw 0 0\nc /data/x overlay rw 0 0\nd /database x rw 0 0\n";
        assert_eq!(mounts_below(Path::new("/data"), table), ["/data/x", "/data"]);
    }

    #[test]
    fn only_a_press_of_the_power_key_counts() {
        let event = |kind: u16, code: u16, value: i32| {
            let mut event = [0; 24];
            event[16..18].copy_from_slice(&kind.to_ne_bytes());
            event[18..20].copy_from_slice(&code.to_ne_bytes());
            event[20..].copy_from_slice(&value.to_ne_bytes());
            event
        };
        assert!(is_power_key(&event(1, 116, 1)));
        assert!(!is_power_key(&event(1, 116, 0)));
        assert!(!is_power_key(&event(1, 30, 1)));
        assert!(!is_power_key(&event(0, 0, 0)));
    }
}
