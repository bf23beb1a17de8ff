//! A machine's devices, from a [`VmSpec`].

use host::hypervisor::VmSpec;
use host::vm::assets::DATA_DISK_SERIAL;
use objc2::AnyThread as _;
use objc2::rc::Retained;
use objc2_foundation::{NSArray, NSError, NSString, NSURL};
use objc2_virtualization::{
    VZDiskImageCachingMode, VZDiskImageStorageDeviceAttachment, VZDiskImageSynchronizationMode,
    VZFileSerialPortAttachment, VZGenericPlatformConfiguration, VZLinuxBootLoader,
    VZVirtioBlockDeviceConfiguration, VZVirtioConsoleDeviceSerialPortConfiguration,
    VZVirtioEntropyDeviceConfiguration, VZVirtioSocketDeviceConfiguration,
    VZVirtioTraditionalMemoryBalloonDeviceConfiguration, VZVirtualMachineConfiguration,
};

/// Builds and validates the configuration.
pub(crate) fn from_spec(spec: &VmSpec) -> Result<Retained<VZVirtualMachineConfiguration>, Retained<NSError>> {
    // SAFETY: every object here is made by its designated initialiser and used by this thread alone; the values are
    // checked by the framework's own validation at the end.
    unsafe {
        let configuration = VZVirtualMachineConfiguration::new();
        configuration.setPlatform(&VZGenericPlatformConfiguration::new());
        configuration.setCPUCount(cpu_count(spec.cpus));
        configuration.setMemorySize(u64::from(spec.memory_mib) << 20);
        configuration.setBootLoader(Some(&boot_loader(spec)));
        configuration.setStorageDevices(&NSArray::from_retained_slice(&[data_disk(spec)?.into_super()]));
        configuration.setSerialPorts(&NSArray::from_retained_slice(&[console(spec)?.into_super()]));
        let vsock = VZVirtioSocketDeviceConfiguration::new();
        configuration.setSocketDevices(&NSArray::from_retained_slice(&[vsock.into_super()]));
        let entropy = VZVirtioEntropyDeviceConfiguration::new();
        configuration.setEntropyDevices(&NSArray::from_retained_slice(&[entropy.into_super()]));
        let balloon = VZVirtioTraditionalMemoryBalloonDeviceConfiguration::new();
        configuration.setMemoryBalloonDevices(&NSArray::from_retained_slice(&[balloon.into_super()]));
        configuration.validateWithError()?;
        Ok(configuration)
    }
}

/// What the framework takes for a number of processors.
fn cpu_count(cpus: u32) -> usize {
    #[cfg(feature = "deliberate-type-error")]
    let cpus: u32 = "2";
    // SAFETY: both class properties are constants of this Mac, readable from any thread.
    let (least, most) = unsafe {
        (
            VZVirtualMachineConfiguration::minimumAllowedCPUCount(),
            VZVirtualMachineConfiguration::maximumAllowedCPUCount(),
        )
    };
    (cpus as usize).clamp(least, most)
}

fn boot_loader(spec: &VmSpec) -> Retained<VZLinuxBootLoader> {
    // SAFETY: the URLs and the string outlive the calls, which copy them.
    unsafe {
        let loader = VZLinuxBootLoader::initWithKernelURL(VZLinuxBootLoader::alloc(), &url(&spec.kernel));
        loader.setInitialRamdiskURL(Some(&url(&spec.initramfs)));
        loader.setCommandLine(&NSString::from_str(&spec.command_line));
        loader
    }
}

fn data_disk(spec: &VmSpec) -> Result<Retained<VZVirtioBlockDeviceConfiguration>, Retained<NSError>> {
    // SAFETY: the URL names a raw image file and outlives the call; the identifier is shorter than 20 ASCII characters.
    unsafe {
        let attachment =
            VZDiskImageStorageDeviceAttachment::initWithURL_readOnly_cachingMode_synchronizationMode_error(
                VZDiskImageStorageDeviceAttachment::alloc(),
                &url(&spec.data_disk),
                false,
                VZDiskImageCachingMode::Automatic,
                // A flush of the guest reaches the drive: what the engine said is done survives a power loss.
                VZDiskImageSynchronizationMode::Full,
            )?;
        let disk = VZVirtioBlockDeviceConfiguration::initWithAttachment(
            VZVirtioBlockDeviceConfiguration::alloc(),
            &attachment,
        );
        disk.setBlockDeviceIdentifier(&NSString::from_str(DATA_DISK_SERIAL));
        Ok(disk)
    }
}

fn console(
    spec: &VmSpec,
) -> Result<Retained<VZVirtioConsoleDeviceSerialPortConfiguration>, Retained<NSError>> {
    // SAFETY: the URL names a file and outlives the call; the port keeps the attachment alive.
    unsafe {
        let file = VZFileSerialPortAttachment::initWithURL_append_error(
            VZFileSerialPortAttachment::alloc(),
            &url(&spec.console),
            true,
        )?;
        let port = VZVirtioConsoleDeviceSerialPortConfiguration::new();
        port.setAttachment(Some(&file));
        Ok(port)
    }
}

fn url(path: &std::path::Path) -> Retained<NSURL> {
    NSURL::fileURLWithPath(&NSString::from_str(&path.to_string_lossy()))
}
