//! The connections of the admin server.
//!
//! Connections that send nothing must neither keep others from being answered nor use up the file descriptors that the Kafka
//! client and the log need. So there are at most [`MOST`] at a time, and one more closes the oldest: an honest request is
//! answered within milliseconds.

use std::{collections::VecDeque, io, time::Duration};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{AbortHandle, JoinSet},
    time::{sleep, timeout},
};

/// Connections at a time.
pub(super) const MOST: usize = 32;
/// For a request's line and headers, since the connection opened or the previous answer.
const HEAD: Duration = Duration::from_secs(10);
/// For a whole connection: a scraper can open another.
const CONNECTION: Duration = Duration::from_secs(60);
/// For a request's line and headers.
const HEAD_BYTES: usize = 16 * 1024;
/// After a failed accept, for example without free descriptors.
const PAUSE: Duration = Duration::from_millis(500);

/// Serves until `shutdown` resolves and the requests in flight are answered.
pub(super) async fn serve(
    listener: TcpListener,
    routes: Router,
    shutdown: impl Future<Output = ()> + Send,
) -> io::Result<()> {
    let mut connections = Connections::default();
    let (end, ending) = watch::channel(());
    tokio::pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            () = &mut shutdown => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                connections.make_room().await;
                connections.add(connection(stream, routes.clone(), ending.clone()));
            }
            // The client has closed it already.
            Err(error) if is_of_connection(&error) => {}
            Err(error) => {
                connections.close_oldest().await;
                tracing::warn!(%error, "can't accept a connection (admin.listen)");
                sleep(PAUSE).await;
            }
        }
    }
    drop(ending);
    let _ = end.send(());
    while connections.tasks.join_next().await.is_some() {}
    Ok(())
}

/// The tasks of the connections, the oldest first.
#[derive(Debug, Default)]
struct Connections {
    tasks: JoinSet<()>,
    handles: VecDeque<AbortHandle>,
}

impl Connections {
    fn add(&mut self, connection: impl Future<Output = ()> + Send + 'static) {
        self.handles.push_back(self.tasks.spawn(connection));
    }

    async fn make_room(&mut self) {
        while self.tasks.try_join_next().is_some() {}
        self.handles.retain(|handle| !handle.is_finished());
        while self.tasks.len() >= MOST {
            self.close_oldest().await;
        }
    }

    async fn close_oldest(&mut self) {
        if let Some(oldest) = self.handles.pop_front() {
            oldest.abort();
            // That one or another: either way there is one less.
            let _ = self.tasks.join_next().await;
        }
    }
}

async fn connection(stream: TcpStream, routes: Router, mut ending: watch::Receiver<()>) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD).max_buf_size(HEAD_BYTES);
    let served = http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes));
    let served = async {
        tokio::pin!(served);
        tokio::select! {
            served = &mut served => return served,
            _ = ending.changed() => served.as_mut().graceful_shutdown(),
        }
        served.await
    };
    // Neither concerns anyone but the client.
    match timeout(CONNECTION, served).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a connection of the admin server ended"),
        Err(_) => tracing::debug!("a connection of the admin server was open for too long"),
    }
}

fn is_of_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}
