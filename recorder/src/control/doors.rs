//! The doors for triggers: what alerting systems post.
//!
//! An answer comes before the snapshot is taken: whoever waits for it gives up after
//! seconds and calls again.

use std::{path::Path, sync::Arc};

use axum::{
    Json,
    extract::{FromRequest, Request},
    http::{HeaderMap, StatusCode, header},
};
use bytes::Bytes;

use super::{
    Serving, TriggerAnswer as Answer,
    refusal::Refusal,
    routes::{blocking, json_body},
    serve::Caller,
};
use crate::{
    clock::ClockAnchor,
    config::{TriggerConfig, trigger::Access},
    dispatch::Incoming,
    trigger::{
        body::{self, BodyError, CloudEvent, Message, PagerDutyError},
        policy::Decision,
        signature::{self, Unproven},
    },
};

/// Where Grafana puts its signature.
const GRAFANA_SIGNATURE: &str = "x-grafana-alerting-signature";

/// Where PagerDuty puts its signatures.
const PAGERDUTY_SIGNATURE: &str = "x-pagerduty-signature";

/// What PagerDuty calls a delivery; the same when it tries again.
const PAGERDUTY_DELIVERY: &str = "x-webhook-id";

/// PagerDuty tries again for about twenty minutes.
const PAGERDUTY_OLD_S: i64 = 1800;

/// A request at a door.
pub(super) struct Call {
    serving: Serving,
    caller: Caller,
    config: Arc<TriggerConfig>,
    headers: HeaderMap,
    body: Bytes,
}

impl FromRequest<Serving> for Call {
    type Rejection = Refusal;

    async fn from_request(request: Request, serving: &Serving) -> Result<Call, Refusal> {
        let caller = request.extensions().get::<Caller>().copied();
        let caller = caller.ok_or_else(|| Refusal::failed("nobody is behind the connection"))?;
        let (headers, body) = json_body(request).await?;
        let config = serving.dispatcher.config();
        Ok(Call { serving: serving.clone(), caller, config, headers, body })
    }
}

impl Call {
    fn access(&self) -> &Access {
        &self.config.access
    }

    fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers.get(name).map(header::HeaderValue::as_bytes)
    }

    fn header_text(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// Whoever uses the control socket is believed. Over TCP a token is asked for as
    /// soon as there is any secret: behind a proxy everybody comes from this host.
    fn has_token(&self) -> Result<(), Unproven> {
        if self.caller == Caller::Control || !self.access().has_secret() {
            return Ok(());
        }
        signature::bearer(self.header(header::AUTHORIZATION.as_str()), &self.access().tokens)
    }

    fn is_from_grafana(&self) -> Result<(), Unproven> {
        let signature = self.header(GRAFANA_SIGNATURE);
        if self.access().grafana.is_empty() || signature.is_none() {
            return self.has_token();
        }
        let name = self.access().grafana_timestamp_header.as_deref();
        let timestamp = name.and_then(|name| self.header(name));
        if name.is_some() && timestamp.is_none() {
            return Err(Unproven::Missing);
        }
        signature::grafana(signature, timestamp, &self.body, &self.access().grafana, now_s())
    }

    fn is_from_pagerduty(&self) -> Result<(), Unproven> {
        let signatures = self.header(PAGERDUTY_SIGNATURE);
        if self.access().pagerduty.is_empty() || signatures.is_none() {
            return self.has_token();
        }
        signature::pagerduty(signatures, &self.body, &self.access().pagerduty)
    }

    /// Hands a message in and words the answer.
    async fn answer(&self, door: &str, message: Result<Message, BodyError>) -> Answered {
        let message = message.map_err(|error| Refusal::new(StatusCode::BAD_REQUEST, error))?;
        let dispatcher = Arc::clone(&self.serving.dispatcher);
        if !dispatcher.dumper().handle().is_recording() {
            return Err(Refusal::unavailable("not recording yet: try again"));
        }
        let local = self.caller.is_local();
        let (offered, door) = (Arc::clone(&dispatcher), door.to_string());
        let decision = blocking(move || {
            let (before_ns, after_ns) = (None, None);
            offered.offer(Incoming { door: &door, message, local, before_ns, after_ns })
        })
        .await?;
        let named = |name: &str| Answer {
            id: Path::new(name).file_stem().map(|id| id.to_string_lossy().into_owned()),
            path: Some(dispatcher.path(name).to_string_lossy().into_owned()),
            ..Answer::default()
        };
        match decision {
            Decision::Accepted(name) => Ok((StatusCode::ACCEPTED, Json(named(&name)))),
            Decision::Joined(name) => {
                let joined = Answer { joined: Some(true), ..named(&name) };
                Ok((StatusCode::ACCEPTED, Json(joined)))
            }
            Decision::Known(name) => {
                let ignored = Some("this alert has its snapshot".to_string());
                Ok((StatusCode::OK, Json(Answer { ignored, ..named(&name) })))
            }
            Decision::Ignored(why) => {
                Ok((StatusCode::OK, Json(Answer { ignored: Some(why), ..Answer::default() })))
            }
            Decision::Refused { why, retry_after_s } => Err(Refusal::too_many(why, retry_after_s)),
        }
    }
}

fn now_s() -> i64 {
    ClockAnchor::now().wall_s()
}

/// What a door answers.
type Answered = Result<(StatusCode, Json<Answer>), Refusal>;

fn unproven(error: Unproven) -> Refusal {
    Refusal::new(StatusCode::UNAUTHORIZED, error)
}

pub(super) async fn alertmanager(call: Call) -> Answered {
    call.has_token().map_err(unproven)?;
    call.answer("alertmanager", body::alertmanager(&call.body)).await
}

pub(super) async fn grafana(call: Call) -> Answered {
    call.is_from_grafana().map_err(unproven)?;
    call.answer("grafana", body::grafana(&call.body)).await
}

pub(super) async fn pagerduty(call: Call) -> Answered {
    call.is_from_pagerduty().map_err(unproven)?;
    let delivery = call.header_text(PAGERDUTY_DELIVERY);
    let events = &call.access().pagerduty_events;
    match body::pagerduty(&call.body, delivery, events, now_s(), PAGERDUTY_OLD_S) {
        Ok(message) => call.answer("pagerduty", Ok(message)).await,
        Err(PagerDutyError::Body(error)) => call.answer("pagerduty", Err(error)).await,
        Err(PagerDutyError::Old(most_s)) => Err(Refusal::new(
            StatusCode::UNAUTHORIZED,
            format!("the event occurred more than {most_s} s ago: it is played again"),
        )),
    }
}

pub(super) async fn generic(call: Call) -> Answered {
    call.has_token().map_err(unproven)?;
    let event = call.header_text("ce-id").map(|id| CloudEvent {
        id: id.to_string(),
        source: call.header_text("ce-source").unwrap_or_default().to_string(),
        kind: call.header_text("ce-type").unwrap_or_default().to_string(),
    });
    call.answer("generic", body::generic(&call.body, event.as_ref())).await
}
