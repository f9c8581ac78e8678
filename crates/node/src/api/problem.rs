//! What is answered when something is wrong, and bodies that are read strictly.

use crate::attach::Refusal;
use crate::change::{ChangeError, DrainError};
use crate::config::ConfigError;
use crate::wire::Problem;
use axum::Json;
use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;
use axum::http::header::CONTENT_LENGTH;
use axum::response::{IntoResponse, Response};
use memvisor_proto::size::Size;
use serde::de::DeserializeOwned;

/// A problem with its status.
#[derive(Debug)]
pub struct Refused {
    status: StatusCode,
    problem: Box<Problem>,
}

impl Refused {
    /// One without amounts.
    pub fn new(status: StatusCode, error: impl Into<String>, way_out: impl Into<String>) -> Self {
        let problem = Problem { error: error.into(), way_out: way_out.into(), ..Problem::default() };
        Self { status, problem: Box::new(problem) }
    }

    /// There is no such space.
    pub fn no_space(name: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, format!("there is no space called {name}"), "see GET /v1/spaces")
    }

    /// Who asks may not.
    pub fn not_yours(what: &str, way_out: &str) -> Self {
        Self::new(StatusCode::FORBIDDEN, what, way_out)
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        (self.status, Json(*self.problem)).into_response()
    }
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        let Refusal { why, fits_bytes, .. } = refusal;
        let way_out = match fits_bytes {
            Some(bytes) => format!("ask for {} or less", Size(bytes)),
            None => "see the reason".to_owned(),
        };
        let mut refused = Self::new(StatusCode::CONFLICT, why, way_out);
        refused.problem.fits_bytes = fits_bytes;
        refused
    }
}

impl From<ChangeError> for Refused {
    fn from(error: ChangeError) -> Self {
        match error {
            ChangeError::Meaningless { what, way_out } => Self::new(StatusCode::BAD_REQUEST, what, way_out),
            ChangeError::DoesNotFit(refusal) => refusal.into(),
            ChangeError::Gone => Self::new(StatusCode::NOT_FOUND, "the space is gone", "see GET /v1/spaces"),
        }
    }
}

impl From<DrainError> for Refused {
    fn from(error: DrainError) -> Self {
        let more = match error.by_space.as_slice() {
            [] => String::new(),
            by_space => format!(" ({})", named(by_space)),
        };
        let promised = match error.promised.as_slice() {
            [] => String::new(),
            promised => format!(
                ", and of {} that can be promised at all, promised to others, with what is set aside for each, are {}",
                Size(error.promisable_bytes),
                named(promised)
            ),
        };
        let what = format!(
            "the pages do not fit: {} more are needed{more} and {} can be had{promised}",
            Size(error.needed_bytes),
            Size(error.free_bytes),
        );
        let way_out = format!("free {}, drain fewer spaces, or lower a reservation", Size(error.missing_bytes));
        let mut refused = Self::new(StatusCode::CONFLICT, what, way_out);
        let problem = &mut refused.problem;
        (problem.missing_bytes, problem.fits_bytes) = (Some(error.missing_bytes), Some(error.free_bytes));
        refused
    }
}

/// Some spaces with their amounts: those that have most.
fn named(amounts: &[(String, u64)]) -> String {
    const NAMED_MAX: usize = 5;
    let named: Vec<String> =
        amounts.iter().take(NAMED_MAX).map(|(name, bytes)| format!("{name} {}", Size(*bytes))).collect();
    let more = if amounts.len() > NAMED_MAX { " and others" } else { "" };
    named.join(", ") + more
}

impl From<ConfigError> for Refused {
    fn from(error: ConfigError) -> Self {
        let way_out = "mend the file and reload again; until then the old configuration is in force";
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, error.to_string(), way_out)
    }
}

/// A JSON body. An empty one is the default where there is one. What it is called does not matter: nobody else speaks here.
pub struct Body<T>(pub T);

impl<T: DeserializeOwned + Default, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Refused;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refused> {
        let length = request.headers().get(CONTENT_LENGTH).cloned();
        let bytes = axum::body::Bytes::from_request(request, state).await.map_err(|error| {
            let length = length.and_then(|length| length.to_str().map(str::to_owned).ok()).unwrap_or_default();
            Refused::new(
                StatusCode::BAD_REQUEST,
                format!("the body cannot be read: {error}"),
                format!("send less than {length} bytes"),
            )
        })?;
        if bytes.is_empty() {
            return Ok(Self(T::default()));
        }
        // A list would be taken for the fields in their order, and an empty one for all that may be left out.
        let read = match bytes.trim_ascii_start().first() {
            Some(b'{') => serde_json::from_slice(&bytes).map_err(|error| error.to_string()),
            _ => Err("it is no JSON object".to_owned()),
        };
        read.map(Self).map_err(|error| {
            let what = format!("the body is not what is asked for: {error}");
            Refused::new(StatusCode::BAD_REQUEST, what, "see GET /v1/openapi.json")
        })
    }
}
