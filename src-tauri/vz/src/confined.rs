//! Objects that may be touched on one serial queue only.
//!
//! A `VZVirtualMachine` must be used on the queue that it was made with. [`Confined`] makes that a rule of the
//! types: it may travel, but what is in it is reached by a closure that runs on the queue.

use std::mem::ManuallyDrop;
use std::sync::Arc;

use dispatch2::{DispatchQueue, DispatchRetained};
use tokio::sync::oneshot;

/// A value that lives on a queue.
pub(crate) struct Confined<T: 'static> {
    queue: DispatchRetained<DispatchQueue>,
    value: Arc<Cell<T>>,
}

/// The value, on its way between threads.
struct Cell<T>(ManuallyDrop<T>);

// SAFETY: the value is only reached in closures that run on the serial queue (`Confined::ask`) and is dropped there
// too (`Confined::drop`), so two threads never use it at once and all uses are on its queue.
unsafe impl<T> Send for Cell<T> {}
// SAFETY: as above: a shared reference is turned into one to the value only on the serial queue.
unsafe impl<T> Sync for Cell<T> {}

impl<T: 'static> Confined<T> {
    /// Makes the value on the queue.
    pub(crate) async fn make<E: Send + 'static>(
        queue: DispatchRetained<DispatchQueue>,
        make: impl FnOnce(&DispatchQueue) -> Result<T, E> + Send + 'static,
    ) -> Option<Result<Confined<T>, E>> {
        let (reply, answer) = oneshot::channel();
        let inner = queue.clone();
        queue.exec_async(move || {
            let made = make(&inner).map(|value| Confined {
                queue: inner.clone(),
                value: Arc::new(Cell(ManuallyDrop::new(value))),
            });
            let _ = reply.send(made);
        });
        answer.await.ok()
    }

    /// Runs a closure with the value on the queue, and returns at once. The closure answers by what it captured.
    pub(crate) fn run(&self, work: impl FnOnce(&T) + Send + 'static) {
        let value = Arc::clone(&self.value);
        self.queue.exec_async(move || {
            let cell: &Cell<T> = &value;
            work(&cell.0);
        });
    }

    /// Runs a closure with the value on the queue and waits for its result.
    pub(crate) async fn ask<R: Send + 'static>(
        &self,
        work: impl FnOnce(&T) -> R + Send + 'static,
    ) -> Option<R> {
        let (reply, answer) = oneshot::channel();
        self.run(move |value| {
            let _ = reply.send(work(value));
        });
        answer.await.ok()
    }
}

impl<T: 'static> Drop for Confined<T> {
    fn drop(&mut self) {
        let value = Arc::clone(&self.value);
        self.queue.exec_async(move || {
            // The queue is serial and nobody can add work with this value any more, so all that was added before
            // has ended and this closure's and the dropped `Confined`'s are the only counts left.
            let pointer = Arc::as_ptr(&value).cast_mut();
            // SAFETY: no closure with a reference to the value runs or will run (see above), the allocation lives as
            // long as `value`, and `ManuallyDrop` keeps the value from being dropped a second time.
            unsafe { ManuallyDrop::drop(&mut (*pointer).0) };
        });
    }
}
