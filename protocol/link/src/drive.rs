//! The loop: connect, subscribe, deliver, wait, again.

use std::time::Duration;

use rumqttc::Transport;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{Filter, LastWill, Packet, SubAck, SubscribeReasonCode};
use rumqttc::v5::{AsyncClient, Event, EventLoop, MqttOptions};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout};

use crate::options::{Address, Greeting, Options};
use crate::pipe::Pipe;
use crate::tls::Trust;
use crate::{Arrival, IN_FLIGHT_MAX, PACKET_BYTES_MAX, REQUESTS_MAX};

/// First wait after a failure; doubled up to [`WAIT_MS_MAX`].
const WAIT_MS_FIRST: u64 = 250;
/// Longest wait: a fleet that lost its hub spreads its return over this time.
const WAIT_MS_MAX: u64 = 30_000;
/// A session that lasted this long was a good one: the next failure waits the first time again.
const GOOD_SESSION: Duration = Duration::from_secs(10);
/// How long an orderly end may take.
const GOODBYE: Duration = Duration::from_secs(2);

/// Every connection alike.
struct Plan {
    address: Address,
    trust: Trust,
    client_id: String,
    subscriptions: Vec<String>,
    keep_alive: Duration,
}

/// Keeps a connection up until `stopped` says true or its sender is gone.
pub(crate) async fn run(
    options: Options,
    arrived: mpsc::Sender<Arrival>,
    client_is: watch::Sender<Option<AsyncClient>>,
    mut stopped: watch::Receiver<bool>,
) {
    let Options { address, trust, client_id, subscriptions, keep_alive, mut greet } = options;
    let plan = Plan { address, trust, client_id, subscriptions, keep_alive };
    let mut failures = 0u32;
    loop {
        let began = Instant::now();
        let end = match greet() {
            Ok(greeting) => session(&plan, greeting, &arrived, &client_is, &mut stopped).await,
            Err(why) => End::Failed(why),
        };
        client_is.send_replace(None);
        let End::Failed(why) = end else { return };
        tracing::debug!(client = plan.client_id, why, "link down");
        if began.elapsed() > GOOD_SESSION {
            failures = 0;
        }
        tell(&arrived, Arrival::Down { why });
        let wait = wait(failures, getrandom::u64().unwrap_or(u64::MAX));
        failures = failures.saturating_add(1);
        tokio::select! {
            () = sleep(wait) => {}
            () = told_to_stop(&mut stopped) => return,
        }
    }
}

/// Half to all of the doubled time, by `random`.
fn wait(failures: u32, random: u64) -> Duration {
    let whole = WAIT_MS_FIRST.saturating_mul(1 << failures.min(10)).min(WAIT_MS_MAX);
    Duration::from_millis(whole / 2 + random % (whole / 2 + 1))
}

/// How a session ended.
enum End {
    Stopped,
    Failed(String),
}

/// One connection, from its first packet to its last.
async fn session(
    plan: &Plan,
    greeting: Greeting,
    arrived: &mpsc::Sender<Arrival>,
    client_is: &watch::Sender<Option<AsyncClient>>,
    stopped: &mut watch::Receiver<bool>,
) -> End {
    let pipe = if plan.address.tls {
        let opened = tokio::select! {
            opened = Pipe::open(&plan.address, &plan.trust) => opened,
            () = told_to_stop(stopped) => return End::Stopped,
        };
        match opened {
            Ok(pipe) => Some(pipe),
            Err(why) => return End::Failed(why),
        }
    } else {
        None
    };
    let (client, mut events) = AsyncClient::new(mqtt_options(plan, greeting, pipe.as_ref()), REQUESTS_MAX);
    let end = converse(&client, &mut events, &plan.subscriptions, (arrived, client_is), stopped).await;
    // With the loop goes its socket, by which the pipe knows that it may end.
    drop(events);
    let Some(pipe) = pipe else { return end };
    let broke = pipe.end(GOODBYE).await;
    match end {
        End::Failed(why) => End::Failed(broke.unwrap_or(why)),
        End::Stopped => End::Stopped,
    }
}

async fn converse(
    client: &AsyncClient,
    events: &mut EventLoop,
    subscriptions: &[String],
    (arrived, client_is): (&mpsc::Sender<Arrival>, &watch::Sender<Option<AsyncClient>>),
    stopped: &mut watch::Receiver<bool>,
) -> End {
    loop {
        let event = tokio::select! {
            event = events.poll() => event,
            () = told_to_stop(stopped) => {
                goodbye(client, events).await;
                return End::Stopped;
            }
        };
        match event {
            Ok(Event::Incoming(Packet::ConnAck(_))) => {
                let filters = subscriptions.iter().map(|filter| Filter::new(filter.clone(), QoS::AtLeastOnce));
                if subscriptions.is_empty() {
                    if let Err(why) = up(arrived, client_is, client) {
                        return End::Failed(why);
                    }
                } else if client.try_subscribe_many(filters).is_err() {
                    return End::Failed("the subscription does not fit the queue".into());
                }
            }
            Ok(Event::Incoming(Packet::SubAck(ack))) => match refused(&ack) {
                Some(code) => {
                    return End::Failed(format!("the broker refuses the subscription: {code:?}"));
                }
                None => {
                    if let Err(why) = up(arrived, client_is, client) {
                        return End::Failed(why);
                    }
                }
            },
            Ok(Event::Incoming(Packet::Publish(publish))) => {
                let topic = String::from_utf8_lossy(&publish.topic).into_owned();
                tell(arrived, Arrival::Message { topic, payload: publish.payload });
            }
            Ok(_) => {}
            Err(why) => return End::Failed(why.to_string()),
        }
    }
}

/// Tells that the connection stands. Where there is no room for that the connection is of no use:
/// its owner would never say hello.
fn up(
    arrived: &mpsc::Sender<Arrival>,
    client_is: &watch::Sender<Option<AsyncClient>>,
    client: &AsyncClient,
) -> Result<(), String> {
    client_is.send_replace(Some(client.clone()));
    match arrived.try_send(Arrival::Up) {
        Err(mpsc::error::TrySendError::Full(_)) => Err("arrivals are not taken".into()),
        // An owner that is gone stops the link by itself.
        Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => Ok(()),
    }
}

fn refused(ack: &SubAck) -> Option<&SubscribeReasonCode> {
    ack.return_codes.iter().find(|code| !matches!(code, SubscribeReasonCode::Success(_)))
}

/// Lets what is queued go out, then disconnects.
async fn goodbye(client: &AsyncClient, events: &mut EventLoop) {
    // Nobody but this loop empties the queue, so a full one is retried with the loop running.
    let leave = async {
        let mut is_asked = client.try_disconnect().is_ok();
        while let Ok(event) = events.poll().await {
            if matches!(event, Event::Outgoing(rumqttc::Outgoing::Disconnect)) {
                break;
            }
            is_asked = is_asked || client.try_disconnect().is_ok();
        }
    };
    if timeout(GOODBYE, leave).await.is_err() {
        tracing::debug!("the broker did not take a farewell in time");
    }
}

async fn told_to_stop(stopped: &mut watch::Receiver<bool>) {
    // An error means that the last link was dropped: that is a stop, too.
    let _ = stopped.wait_for(|stop| *stop).await;
}

/// Hands an arrival over without ever waiting.
fn tell(arrived: &mpsc::Sender<Arrival>, arrival: Arrival) {
    if let Err(mpsc::error::TrySendError::Full(_)) = arrived.try_send(arrival) {
        tracing::warn!("arrivals are not taken fast enough: one was dropped");
    }
}

fn mqtt_options(plan: &Plan, greeting: Greeting, pipe: Option<&Pipe>) -> MqttOptions {
    const KEEP_ALIVE_MIN: Duration = Duration::from_secs(5);
    let (host, port) = pipe.map_or((plan.address.host.as_str(), plan.address.port), |pipe| (pipe.path(), 0));
    let mut mqtt = MqttOptions::new(plan.client_id.clone(), host, port);
    if pipe.is_some() {
        mqtt.set_transport(Transport::Unix);
    }
    mqtt.set_clean_start(true);
    mqtt.set_keep_alive(plan.keep_alive.max(KEEP_ALIVE_MIN));
    mqtt.set_max_packet_size(u32::try_from(PACKET_BYTES_MAX).ok());
    mqtt.set_outgoing_inflight_upper_limit(IN_FLIGHT_MAX);
    if let Some((user, password)) = greeting.login {
        mqtt.set_credentials(user, password);
    }
    if let Some(will) = greeting.will {
        mqtt.set_last_will(LastWill::new(will.topic, will.payload, QoS::AtLeastOnce, false, None));
    }
    mqtt
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_that_cannot_be_told_of_is_a_failed_one() {
        let (client, _events) = AsyncClient::new(MqttOptions::new("gw-1", "127.0.0.1", 1), REQUESTS_MAX);
        let (client_is, _) = watch::channel(None);
        let (arrived, mut arrivals) = mpsc::channel(1);
        assert_eq!(up(&arrived, &client_is, &client), Ok(()));
        assert!(up(&arrived, &client_is, &client).unwrap_err().contains("not taken"));
        assert_eq!(arrivals.try_recv(), Ok(Arrival::Up));
        assert_eq!(up(&arrived, &client_is, &client), Ok(()));
    }

    #[test]
    fn waits_double_with_jitter_and_stay_bounded() {
        assert_eq!(wait(0, 0), Duration::from_millis(125));
        assert_eq!(wait(0, 125), Duration::from_millis(250));
        assert_eq!(wait(1, 0), Duration::from_millis(250));
        for random in [0, 1, u64::MAX] {
            assert!(wait(u32::MAX, random) <= Duration::from_millis(WAIT_MS_MAX));
            assert!(wait(u32::MAX, random) >= Duration::from_millis(WAIT_MS_MAX / 2));
        }
    }
}
