//! What the framework tells us, as channels.

use std::os::fd::{BorrowedFd, OwnedFd};

use host::hypervisor::Exit;
use objc2::rc::Retained;
use objc2::{AnyThread, DefinedClass, define_class, msg_send};
use objc2_foundation::{NSError, NSObject, NSObjectProtocol};
use objc2_virtualization::{
    VZVirtioSocketConnection, VZVirtioSocketDevice, VZVirtioSocketListener, VZVirtioSocketListenerDelegate,
    VZVirtualMachine, VZVirtualMachineDelegate,
};
use tokio::sync::{mpsc, watch};

define_class!(
    // SAFETY: NSObject has no demands on its subclasses, and `EndDelegate` implements no `Drop`.
    #[unsafe(super(NSObject))]
    #[ivars = watch::Sender<Option<Exit>>]
    /// Hears of a machine's end.
    pub(crate) struct EndDelegate;

    // SAFETY: the protocol has no demands of its own.
    unsafe impl NSObjectProtocol for EndDelegate {}

    // SAFETY: the methods have the signatures that the protocol gives them.
    unsafe impl VZVirtualMachineDelegate for EndDelegate {
        #[unsafe(method(guestDidStopVirtualMachine:))]
        fn guest_did_stop(&self, _machine: &VZVirtualMachine) {
            self.ivars().send_replace(Some(Exit::PoweredOff));
        }

        #[unsafe(method(virtualMachine:didStopWithError:))]
        fn did_stop_with_error(&self, _machine: &VZVirtualMachine, error: &NSError) {
            self.ivars().send_replace(Some(Exit::Crashed(describe(error))));
        }
    }
);

impl EndDelegate {
    pub(crate) fn new(exit: watch::Sender<Option<Exit>>) -> Retained<Self> {
        let this = Self::alloc().set_ivars(exit);
        // SAFETY: `init` of NSObject takes nothing and returns the object.
        unsafe { msg_send![super(this), init] }
    }
}

define_class!(
    // SAFETY: NSObject has no demands on its subclasses, and `PortDelegate` implements no `Drop`.
    #[unsafe(super(NSObject))]
    #[ivars = mpsc::Sender<OwnedFd>]
    /// Takes the connections that the guest opens to one port.
    pub(crate) struct PortDelegate;

    // SAFETY: the protocol has no demands of its own.
    unsafe impl NSObjectProtocol for PortDelegate {}

    // SAFETY: the method has the signature that the protocol gives it.
    unsafe impl VZVirtioSocketListenerDelegate for PortDelegate {
        #[unsafe(method(listener:shouldAcceptNewConnection:fromSocketDevice:))]
        fn should_accept(
            &self,
            _listener: &VZVirtioSocketListener,
            connection: &VZVirtioSocketConnection,
            _device: &VZVirtioSocketDevice,
        ) -> bool {
            // A full queue or a port that nobody listens on any more refuses the connection.
            descriptor(connection).is_ok_and(|descriptor| self.ivars().try_send(descriptor).is_ok())
        }
    }
);

impl PortDelegate {
    pub(crate) fn new(connections: mpsc::Sender<OwnedFd>) -> Retained<Self> {
        let this = Self::alloc().set_ivars(connections);
        // SAFETY: `init` of NSObject takes nothing and returns the object.
        unsafe { msg_send![super(this), init] }
    }
}

/// A descriptor of our own for a connection: the connection closes its own when it is released.
pub(crate) fn descriptor(connection: &VZVirtioSocketConnection) -> std::io::Result<OwnedFd> {
    // SAFETY: reading the property has no preconditions.
    let raw = unsafe { connection.fileDescriptor() };
    if raw < 0 {
        return Err(std::io::ErrorKind::NotConnected.into());
    }
    // SAFETY: the descriptor isn't -1 and stays open while the connection lives, which is longer than this borrow.
    unsafe { BorrowedFd::borrow_raw(raw) }.try_clone_to_owned()
}

/// An error in Apple's words.
pub(crate) fn describe(error: &NSError) -> String {
    match error.localizedFailureReason() {
        Some(reason) => format!("{}: {reason}", error.localizedDescription()),
        None => error.localizedDescription().to_string(),
    }
}
