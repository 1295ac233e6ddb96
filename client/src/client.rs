//! The handle that everything begins with.
//!
//! Cheap to clone; all clones share one connection, which is opened again when it is lost.

use std::{fmt, net::SocketAddr, sync::Arc, time::Duration};

use quinn::{Connection, Endpoint};
use tollgate_certs::ClientCredentials;

use crate::{
    batch::{BatchBuilder, BatchResult, Options, execute},
    builder::ClientBuilder,
    describe::{Limits, Questions, Recipe, Usage, Version},
    error::{BatchError, ConnectError, DescribeError},
    link::{Link, Session},
    request::Request,
    retry::RetryPolicy,
    transport::SocketBuffers,
};

/// A client of one broker, as one identity.
///
/// When the connection is lost, operations that run on it fail, and the next one opens a new
/// connection: one attempt however many wait for it, with growing waits between failures. Dropping
/// the last clone closes the connection without a word; [`close`](Self::close) says good-bye.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

struct Shared {
    link: Link,
    habits: Habits,
    /// What the kernel granted, when the endpoint is this client's own.
    buffers: Option<SocketBuffers>,
}

/// What a client does when something goes wrong.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Habits {
    /// Which items are tried again.
    pub(crate) retry: RetryPolicy,
    /// For how long the broker is looked for while there are jobs to hear of.
    pub(crate) patience: Duration,
}

impl Client {
    /// Connects with the default settings.
    ///
    /// `server_name` is the name that the broker's certificate must carry. Returns once the broker
    /// has answered a first question, so that a refused certificate shows here. Must be called
    /// within a tokio runtime. Cancel-safe.
    ///
    /// ```no_run
    /// use std::path::Path;
    /// use tollgate_client::{Client, ClientCredentials};
    ///
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// let credentials = ClientCredentials::load_dir(Path::new("certs/acme"))?;
    /// let client = Client::connect("127.0.0.1:4433".parse()?, "localhost", credentials).await?;
    /// println!("connected to Tollgate {}", client.version().await?.broker);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ConnectError`]; `Unauthorized` and `Refused` when the broker does not want this client.
    pub async fn connect(
        addr: SocketAddr,
        server_name: &str,
        credentials: ClientCredentials,
    ) -> Result<Client, ConnectError> {
        Client::builder(addr).server_name(server_name).credentials(credentials).connect().await
    }

    /// Sets up a client for a broker's address.
    pub fn builder(addr: SocketAddr) -> ClientBuilder {
        ClientBuilder::new(addr)
    }

    pub(crate) fn new(link: Link, habits: Habits, buffers: Option<SocketBuffers>) -> Self {
        Client { shared: Arc::new(Shared { link, habits, buffers }) }
    }

    /// Runs a whole batch and waits for all of it.
    ///
    /// Items are sent while results come in. What fails and says `retryable` is tried again, up to
    /// three times in all, after the time that the answer asks for: each try is a batch of its own,
    /// and an item keeps its id. The requests must come to an end, and should not block while they
    /// are produced.
    ///
    /// An item that becomes a job is waited for like any other, also when the connection is lost
    /// and the broker restarted meanwhile; it is the broker that tries jobs again, not this.
    ///
    /// Dropping the future cancels the batch, running items too, but not what has become a job.
    ///
    /// ```no_run
    /// use tollgate_client::{Client, Request};
    ///
    /// # async fn example(client: Client) -> Result<(), tollgate_client::BatchError> {
    /// let result = client
    ///     .execute([Request::new("echo", "one"), Request::new("no.such.recipe", "two")])
    ///     .await?;
    /// for item in result.failures() {
    ///     println!("item {} failed: {}", item.id, item.failure().expect("it failed"));
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`BatchError`] when the batch came to no regular end; which items ran is then not known,
    /// unless it says so. Items that fail are no error: see [`BatchResult::into_result`].
    pub async fn execute(
        &self,
        requests: impl IntoIterator<Item = Request>,
    ) -> Result<BatchResult, BatchError> {
        execute(self, &self.options(), requests, &mut |_| {}).await
    }

    /// Sets up a batch: mode, order, priority, deadline, tenant; then runs or opens it.
    pub fn batch(&self) -> BatchBuilder {
        BatchBuilder::new(self.clone(), self.options())
    }

    /// Questions about the broker, perhaps in the name of a gateway's tenant.
    pub fn describe(&self) -> Questions {
        Questions::new(self.clone())
    }

    /// The recipes that this client can name.
    ///
    /// # Errors
    /// [`DescribeError`].
    pub async fn recipes(&self) -> Result<Vec<Recipe>, DescribeError> {
        self.describe().recipes().await
    }

    /// The limits that apply to this client's tenant.
    ///
    /// # Errors
    /// [`DescribeError`].
    pub async fn limits(&self) -> Result<Limits, DescribeError> {
        self.describe().limits().await
    }

    /// What this client's tenant uses of its quotas.
    ///
    /// # Errors
    /// [`DescribeError`].
    pub async fn usage(&self) -> Result<Usage, DescribeError> {
        self.describe().usage().await
    }

    /// The broker's version.
    ///
    /// # Errors
    /// [`DescribeError`].
    pub async fn version(&self) -> Result<Version, DescribeError> {
        self.describe().version().await
    }

    /// Uses other credentials from now on, such as a renewed certificate: the next operation opens
    /// a new connection; what runs on the old one finishes there.
    ///
    /// # Errors
    /// [`ConnectError::Config`] when the credentials cannot be used (the old ones then stay), or
    /// [`ConnectError::ClientClosed`].
    pub fn set_credentials(&self, credentials: &ClientCredentials) -> Result<(), ConnectError> {
        self.shared.link.set_credentials(credentials)
    }

    /// The endpoint beneath: to rebind it to another socket, or to share it with other clients.
    pub fn endpoint(&self) -> &Endpoint {
        &self.shared.link.dialing.endpoint
    }

    /// The connection there is now, if it is open: for its statistics.
    pub fn connection(&self) -> Option<Connection> {
        self.shared.link.connection()
    }

    /// The broker's address.
    pub fn remote_addr(&self) -> SocketAddr {
        self.shared.link.dialing.addr
    }

    /// What the kernel granted for the socket's buffers; `None` when the endpoint came from
    /// outside.
    pub fn socket_buffers(&self) -> Option<SocketBuffers> {
        self.shared.buffers
    }

    /// Closes the connection, for every clone, and waits until the broker was told. What runs on
    /// it is cancelled, and later operations fail with [`ConnectError::ClientClosed`].
    pub async fn close(&self) {
        let connection = self.shared.link.close();
        if self.shared.buffers.is_some() {
            self.endpoint().wait_idle().await;
        } else if let Some(connection) = connection {
            connection.closed().await;
        }
    }

    pub(crate) async fn session(&self) -> Result<Arc<Session>, ConnectError> {
        self.shared.link.session().await
    }

    pub(crate) fn options(&self) -> Options {
        Options::new(self.shared.habits.retry)
    }

    pub(crate) fn patience(&self) -> Duration {
        self.shared.habits.patience
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("remote_addr", &self.remote_addr())
            .field("connected", &self.connection().is_some())
            .finish_non_exhaustive()
    }
}
