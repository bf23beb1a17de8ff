//! The task of one container's name server.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, JoinSet};

use super::answer::{self, Asker, Outcome};
use super::door::Door;
use super::{Context, forward};

/// A question is a name of 255 bytes and some options.
const LARGEST_QUESTION: usize = 4096;
/// Questions answered before others of the engine's tasks get a turn.
const AT_ONCE: usize = 64;
const CONNECTIONS: usize = 64;
const IDLE: Duration = Duration::from_secs(10);

/// Starts serving; it ends when aborted.
pub(super) fn start(door: Door, context: Context) -> io::Result<AbortHandle> {
    let udp = Arc::new(UdpSocket::from_std(door.udp)?);
    let tcp = TcpListener::from_std(door.tcp)?;
    Ok(tokio::spawn(serve(udp, tcp, Arc::new(context))).abort_handle())
}

async fn serve(udp: Arc<UdpSocket>, tcp: TcpListener, context: Arc<Context>) {
    // What was begun ends with this task.
    let mut begun = JoinSet::new();
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        tokio::select! {
            ready = udp.readable() => match ready {
                Ok(()) => answer_waiting(&udp, &context, &mut begun),
                Err(_) => return,
            },
            accepted = tcp.accept() => match accepted {
                Ok((stream, _)) => {
                    if let Ok(permit) = Arc::clone(&room).try_acquire_owned() {
                        let context = context.clone();
                        begun.spawn(async move {
                            // A client that breaks off has nobody to tell.
                            let _ = converse(stream, &context).await;
                            drop(permit);
                        });
                    }
                }
                // Out of descriptors: others must close some first.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            },
            Some(_) = begun.join_next() => {}
        }
    }
}

/// Answers the datagrams that wait. Not a future, so that the buffer lives only meanwhile.
fn answer_waiting(udp: &Arc<UdpSocket>, context: &Arc<Context>, begun: &mut JoinSet<()>) {
    let mut buffer = [0; LARGEST_QUESTION];
    for _ in 0..AT_ONCE {
        let Ok((length, client)) = udp.try_recv_from(&mut buffer) else { return };
        let question = &buffer[..length];
        match decide(question, context, true) {
            Outcome::Reply(reply) => {
                // A full send buffer drops the datagram, as any hop may.
                let _ = udp.try_send_to(&reply, client);
            }
            Outcome::Forward => {
                let (udp, context, question) = (udp.clone(), context.clone(), question.to_vec());
                begun.spawn(async move { forward_datagram(&udp, client, &question, &context).await });
            }
            Outcome::Ignore => {}
        }
    }
}

fn decide(question: &[u8], context: &Context, datagram: bool) -> Outcome {
    let table = context.table.read().unwrap_or_else(PoisonError::into_inner);
    let asker = Asker {
        container: &context.container,
        table: &table,
        ndots: context.ndots,
        datagram,
        turn: context.turn.fetch_add(1, Ordering::Relaxed),
    };
    answer::answer(question, &asker)
}

async fn forward_datagram(udp: &UdpSocket, client: SocketAddr, question: &[u8], context: &Context) {
    let reply = match context.room.try_acquire() {
        Ok(_permit) => forward::ask(question, context, false).await,
        Err(_) => None,
    };
    if let Some(reply) = reply.or_else(|| answer::failure(question)) {
        let _ = udp.send_to(&reply, client).await;
    }
}

/// One connection: questions with their length before them, answered in their order.
async fn converse(mut stream: TcpStream, context: &Context) -> io::Result<()> {
    stream.set_nodelay(true)?;
    loop {
        let length = tokio::time::timeout(IDLE, stream.read_u16()).await??;
        let mut question = vec![0; usize::from(length)];
        tokio::time::timeout(IDLE, stream.read_exact(&mut question)).await??;
        let reply = match decide(&question, context, false) {
            Outcome::Reply(reply) => Some(reply),
            Outcome::Forward => {
                forward::ask(&question, context, true).await.or_else(|| answer::failure(&question))
            }
            Outcome::Ignore => None,
        };
        let Some(reply) = reply else { return Ok(()) };
        let length = u16::try_from(reply.len()).map_err(io::Error::other)?;
        stream.write_all(&[&length.to_be_bytes()[..], &reply].concat()).await?;
    }
}
