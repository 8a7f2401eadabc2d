//! The nameserver: authoritative for the hostnames of all services inside their zones.
//!
//! `wire` and `query` read, `zone` keeps answers ready, `answer` picks one (a pure function of bytes, table and
//! client), `udp` and `tcp` are the sockets around it.

pub mod answer;
pub mod query;
pub mod tcp;
pub mod udp;
pub mod wire;
pub mod zone;

use crate::count::{Outcome, WorkerCounts};
use crate::error::{EngineError, Refusal};
use crate::runtime::{EngineConfig, Role, Worker};
use crate::table::{Served, Service};
use answer::{Told, Transport, answer};
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use tokio::task::JoinSet;
use zone::{Answers, Zones};

/// The role `dns`.
pub struct Dns;

impl Role for Dns {
    const WORD: &'static str = "dns";
    type Prepared = Answers;
    type Table = Zones;

    fn new(_config: &EngineConfig) -> Result<Self, EngineError> {
        Ok(Self)
    }

    fn prepare(&self, service: &Arc<Service>) -> Result<Answers, Refusal> {
        Answers::new(service)
    }

    fn table(&self, served: &[Served<Answers>]) -> Zones {
        Zones::new(served)
    }

    async fn work(mut worker: Worker<Self>) -> Result<(), EngineError> {
        let (udp, tcp) =
            (std::mem::take(&mut worker.sockets.dns_udp), std::mem::take(&mut worker.sockets.dns_tcp));
        let worker = Rc::new(worker);
        let mut tasks = JoinSet::new();
        for socket in udp {
            tasks.spawn_local(udp::serve(Rc::clone(&worker), socket));
        }
        for listener in tcp {
            tasks.spawn_local(tcp::serve(Rc::clone(&worker), listener));
        }
        while let Some(ended) = tasks.join_next().await {
            ended.map_err(|error| EngineError::Bug(error.to_string()))??;
        }
        Ok(())
    }
}

impl Worker<Dns> {
    /// Whether `out` holds a reply to be sent. Counts it. A query that broke us is dropped: it takes down nobody else.
    fn reply(&self, message: &[u8], client: IpAddr, transport: Transport, out: &mut Vec<u8>) -> bool {
        let zones = self.engine.table.load();
        let told = catch_unwind(AssertUnwindSafe(|| answer(&zones, message, client, transport, out)));
        match told {
            Ok(told) => told.inspect(|told| count(&self.counts, told)).is_some(),
            Err(_) => {
                self.counts.served(None, 0, Outcome::ServFail);
                false
            }
        }
    }
}

fn count(counts: &WorkerCounts, told: &Told<'_>) {
    counts.served(told.service, told.region, told.outcome);
}
