//! The machine: [`Hypervisor`] and [`Vm`] over a `VZVirtualMachine`.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use block2::RcBlock;
use dispatch2::DispatchQueue;
use host::hypervisor::{BoxFuture, BoxStream, Exit, Hypervisor, Incoming, Vm, VmSpec};
use host::model::{Failure, FailureKind, HypervisorKind};
use objc2::AnyThread as _;
use objc2::rc::Retained;
use objc2::runtime::ProtocolObject;
use objc2_foundation::NSError;
use objc2_virtualization::{
    VZVirtioSocketConnection, VZVirtioSocketDevice, VZVirtioSocketListener, VZVirtualMachine,
};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot, watch};

use crate::configuration;
use crate::confined::Confined;
use crate::delegates::{EndDelegate, PortDelegate, describe, descriptor};

/// Guest connections that wait to be taken, per port.
const BACKLOG: usize = 128;

/// Virtualization.framework.
#[derive(Debug, Default)]
pub struct Apple;

impl Apple {
    /// The framework of this Mac.
    pub fn new() -> Apple {
        Apple
    }

    async fn power_on(&self, spec: VmSpec) -> Result<Arc<dyn Vm>, Failure> {
        let (report, exited) = watch::channel(None);
        let queue = DispatchQueue::new("app.sampan.vm", None);
        let ending = report.clone();
        let made = Confined::make(queue, move |queue| Objects::new(&spec, queue, ending)).await;
        let objects = made.ok_or_else(lost)?.map_err(|words| failed("cannot be made", &words))?;
        let machine = Machine { objects, report, exited };
        let (reply, started) = completion();
        machine.objects.run(move |objects| {
            let handler = handler(reply);
            // SAFETY: this runs on the machine's queue, and the machine was made a moment ago and never started.
            unsafe { objects.machine.startWithCompletionHandler(&handler) };
        });
        match started.await {
            Ok(Ok(())) => Ok(Arc::new(machine)),
            Ok(Err(words)) => Err(failed("did not start", &words)),
            Err(_) => Err(lost()),
        }
    }
}

fn failed(what: &str, words: &str) -> Failure {
    Failure::new(FailureKind::BootFailed, format!("the virtual machine {what}: {words}"))
}

fn lost() -> Failure {
    Failure::new(FailureKind::System, "the virtual machine's queue is gone")
}

impl Hypervisor for Apple {
    fn kind(&self) -> HypervisorKind {
        HypervisorKind::Apple
    }

    fn accelerator(&self) -> Option<String> {
        Some("apple".to_owned())
    }

    fn check(&self) -> Result<(), Failure> {
        // SAFETY: a class property without preconditions.
        if unsafe { VZVirtualMachine::isSupported() } {
            return Ok(());
        }
        let message = "this Mac cannot run virtual machines: Apple silicon and macOS 13 or newer are needed";
        Err(Failure::new(FailureKind::MissingDependency, message))
    }

    fn start(&self, spec: VmSpec) -> BoxFuture<'_, Result<Arc<dyn Vm>, Failure>> {
        Box::pin(self.power_on(spec))
    }
}

/// What belongs to one machine and is used on its queue only. Delegates are held weakly by the framework.
struct Objects {
    machine: Retained<VZVirtualMachine>,
    _end: Retained<EndDelegate>,
    ports: RefCell<Vec<(Retained<VZVirtioSocketListener>, Retained<PortDelegate>)>>,
}

impl Objects {
    fn new(
        spec: &VmSpec,
        queue: &DispatchQueue,
        report: watch::Sender<Option<Exit>>,
    ) -> Result<Objects, String> {
        let configuration = configuration::from_spec(spec).map_err(|error| describe(&error))?;
        let end = EndDelegate::new(report);
        // SAFETY: the configuration was validated, this runs on `queue`, which is serial, and the delegate is kept
        // alive beside the machine.
        let machine = unsafe {
            let machine = VZVirtualMachine::initWithConfiguration_queue(
                VZVirtualMachine::alloc(),
                &configuration,
                queue,
            );
            machine.setDelegate(Some(ProtocolObject::from_ref(&*end)));
            machine
        };
        Ok(Objects { machine, _end: end, ports: RefCell::default() })
    }

    /// The one socket device that the configuration has.
    fn socket_device(&self) -> Option<Retained<VZVirtioSocketDevice>> {
        // SAFETY: this runs on the machine's queue.
        let devices = unsafe { self.machine.socketDevices() };
        devices.firstObject()?.downcast::<VZVirtioSocketDevice>().ok()
    }
}

/// A completion, as a channel that carries success or Apple's words.
type Reply<T> = oneshot::Sender<Result<T, String>>;

fn completion<T>() -> (Reply<T>, oneshot::Receiver<Result<T, String>>) {
    oneshot::channel()
}

/// A completion handler that answers once.
fn handler(reply: Reply<()>) -> RcBlock<dyn Fn(*mut NSError)> {
    let reply = Cell::new(Some(reply));
    RcBlock::new(move |error: *mut NSError| {
        // SAFETY: the framework passes null or an error that lives for the call.
        let result = match unsafe { error.as_ref() } {
            None => Ok(()),
            Some(error) => Err(describe(error)),
        };
        if let Some(reply) = reply.take() {
            let _ = reply.send(result);
        }
    })
}

/// A machine that the framework runs.
struct Machine {
    objects: Confined<Objects>,
    report: watch::Sender<Option<Exit>>,
    exited: watch::Receiver<Option<Exit>>,
}

fn gone() -> io::Error {
    io::Error::from(io::ErrorKind::NotConnected)
}

/// A stream over a descriptor of the framework: a stream socket, whose family nobody asks for.
fn stream(descriptor: OwnedFd) -> io::Result<BoxStream> {
    let stream = std::os::unix::net::UnixStream::from(descriptor);
    stream.set_nonblocking(true)?;
    Ok(Box::new(UnixStream::from_std(stream)?))
}

impl Machine {
    async fn open(&self, port: u32) -> io::Result<BoxStream> {
        let (reply, connected) = completion::<OwnedFd>();
        self.objects.run(move |objects| {
            let Some(device) = objects.socket_device() else { return };
            let reply = Cell::new(Some(reply));
            let handler =
                RcBlock::new(move |connection: *mut VZVirtioSocketConnection, error: *mut NSError| {
                    // SAFETY: the framework passes null or objects that live for the call.
                    let (connection, error) = unsafe { (connection.as_ref(), error.as_ref()) };
                    let result = match (connection, error) {
                        (Some(connection), _) => descriptor(connection).map_err(|error| error.to_string()),
                        (None, Some(error)) => Err(describe(error)),
                        (None, None) => Err("no connection and no reason".to_owned()),
                    };
                    if let Some(reply) = reply.take() {
                        let _ = reply.send(result);
                    }
                });
            // SAFETY: this runs on the machine's queue; the framework copies the block.
            unsafe { device.connectToPort_completionHandler(port, &handler) };
        });
        let descriptor = connected.await.map_err(|_| gone())?;
        stream(descriptor.map_err(|words| io::Error::new(io::ErrorKind::ConnectionRefused, words))?)
    }

    async fn take(&self, port: u32) -> io::Result<Incoming> {
        let (descriptors, mut taken) = mpsc::channel::<OwnedFd>(BACKLOG);
        let listening = self.objects.ask(move |objects| {
            let device = objects.socket_device()?;
            let delegate = PortDelegate::new(descriptors);
            // SAFETY: this runs on the machine's queue; listener and delegate are kept alive in `ports`.
            let listener = unsafe {
                let listener = VZVirtioSocketListener::new();
                listener.setDelegate(Some(ProtocolObject::from_ref(&*delegate)));
                device.setSocketListener_forPort(&listener, port);
                listener
            };
            objects.ports.borrow_mut().push((listener, delegate));
            Some(())
        });
        listening.await.flatten().ok_or_else(gone)?;
        let (sender, incoming) = mpsc::channel(BACKLOG);
        tokio::spawn(async move {
            while let Some(descriptor) = taken.recv().await {
                match stream(descriptor) {
                    Ok(stream) => {
                        if sender.send(stream).await.is_err() {
                            return;
                        }
                    }
                    Err(error) => tracing::warn!(port, %error, "a connection of the guest was lost"),
                }
            }
        });
        Ok(incoming)
    }
}

impl Vm for Machine {
    fn connect(&self, port: u32) -> BoxFuture<'_, io::Result<BoxStream>> {
        Box::pin(self.open(port))
    }

    fn listen(&self, port: u32) -> BoxFuture<'_, io::Result<Incoming>> {
        Box::pin(self.take(port))
    }

    fn power_button(&self) -> BoxFuture<'_, io::Result<()>> {
        Box::pin(async {
            let asked = self.objects.ask(|objects| {
                // SAFETY: this runs on the machine's queue.
                unsafe { objects.machine.requestStopWithError() }.map_err(|error| describe(&error))
            });
            asked.await.ok_or_else(gone)?.map_err(io::Error::other)
        })
    }

    fn kill(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            let (reply, stopped) = completion();
            self.objects.run(move |objects| {
                // SAFETY: this runs on the machine's queue.
                if unsafe { objects.machine.canStop() } {
                    let handler = handler(reply);
                    // SAFETY: as above; the framework copies the block.
                    unsafe { objects.machine.stopWithCompletionHandler(&handler) };
                }
            });
            // An error means that it has ended already, as does a reply that was dropped.
            let _ = stopped.await;
            // The delegate hears only of ends that were not asked for.
            self.report.send_if_modified(|exit| {
                let alone = exit.is_none();
                exit.get_or_insert(Exit::PoweredOff);
                alone
            });
        })
    }

    fn exited(&self) -> watch::Receiver<Option<Exit>> {
        self.exited.clone()
    }
}
