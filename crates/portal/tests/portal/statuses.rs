//! What a gRPC status means: whether the portal sent it or a proxy left it out.

use std::time::UNIX_EPOCH;

use ocserv_agent_model::DenyCode;
use portal::{CheckError, Meaning, PolicyReply};
use tokio::time::Instant;
use tonic::Code;

use crate::raw::{Answer, RawPortal};
use crate::setup::{BOUND, login};

const GRPC: (&str, &str) = ("content-type", "application/grpc");
/// An allow.
const ALLOW: [u8; 2] = [8, 1];

fn headers(pairs: &[(&'static str, &str)]) -> Vec<(&'static str, String)> {
    pairs
        .iter()
        .map(|(name, text)| (*name, (*text).to_owned()))
        .collect()
}

async fn check(raw: &RawPortal, answer: Answer) -> Result<PolicyReply, CheckError> {
    raw.set(answer);
    raw.portal
        .check_policy(&login(), Instant::now() + BOUND, UNIX_EPOCH)
        .await
}

/// The codes that the portal sends to deny one login.
fn denial(code: Code) -> Option<DenyCode> {
    match code {
        Code::InvalidArgument => Some(DenyCode::BadRequest),
        Code::NotFound | Code::PermissionDenied => Some(DenyCode::Policy),
        _ => None,
    }
}

#[tokio::test]
async fn each_status_that_was_sent_denies_or_is_an_outage_wherever_it_is_on_the_wire() {
    let raw = RawPortal::start(|_| {}).await;
    for number in 1..17 {
        let code = Code::from(number);
        let status = number.to_string();
        let in_headers = [
            GRPC,
            ("grpc-status", &status),
            ("grpc-message", "because%0Aof this"),
        ];
        let in_trailers = [("grpc-status", &*status), ("grpc-message", "because%0Aof this")];
        for (wire, answer) in [
            (
                "headers only",
                Answer {
                    headers: headers(&in_headers),
                    ..Answer::default()
                },
            ),
            (
                "headers only, with the HTTP status of a proxy",
                Answer {
                    http: 403,
                    headers: headers(&in_headers),
                    ..Answer::default()
                },
            ),
            (
                "trailers",
                Answer {
                    headers: headers(&[GRPC]),
                    trailers: headers(&in_trailers),
                    ..Answer::default()
                },
            ),
            (
                "trailers after a message that allows",
                Answer {
                    headers: headers(&[GRPC]),
                    message: Some(ALLOW.into()),
                    trailers: headers(&in_trailers),
                    ..Answer::default()
                },
            ),
        ] {
            let error = check(&raw, answer).await.unwrap_err();
            assert_eq!(
                error,
                CheckError::Refused {
                    code,
                    message: "because of this".to_owned()
                },
                "{wire}"
            );
            let meaning = match error.meaning() {
                Meaning::Denied(denial) => Some(denial.code),
                Meaning::Outage | Meaning::Failed => None,
                Meaning::InvalidAnswer => panic!("{code:?} in {wire}"),
            };
            assert_eq!(meaning, denial(code), "{code:?} in {wire}");
        }
    }
}

#[tokio::test]
async fn answer_without_a_grpc_status_is_an_outage_whatever_its_http_status() {
    let raw = RawPortal::start(|_| {}).await;
    for http in [200, 301, 400, 401, 403, 404, 429, 500, 502, 503, 504] {
        for message in [None, Some(ALLOW.to_vec())] {
            for trailers in [headers(&[]), headers(&[("x-trace", "1")])] {
                let answer = Answer {
                    http,
                    headers: headers(&[("content-type", "text/html")]),
                    message: message.clone(),
                    trailers,
                    ..Answer::default()
                };
                let error = check(&raw, answer.clone()).await.unwrap_err();
                assert_eq!(error, CheckError::NoStatus(http), "{answer:?}");
                assert!(error.is_outage(), "{answer:?}: {error}");
            }
        }
    }
    let reset = Answer {
        headers: headers(&[GRPC]),
        message: Some(ALLOW.into()),
        reset: true,
        ..Answer::default()
    };
    let error = check(&raw, reset).await.unwrap_err();
    assert!(error.is_outage(), "{error}");
}

#[tokio::test]
async fn allow_needs_a_message_and_the_status_ok() {
    let raw = RawPortal::start(|_| {}).await;
    let allow = Answer {
        headers: headers(&[GRPC]),
        message: Some(ALLOW.into()),
        trailers: headers(&[("grpc-status", "0")]),
        ..Answer::default()
    };
    assert!(check(&raw, allow).await.unwrap().verdict.is_allow());
    for status in ["", "7x", "99", "-1"] {
        let answer = Answer {
            headers: headers(&[GRPC]),
            message: Some(ALLOW.into()),
            trailers: headers(&[("grpc-status", status)]),
            ..Answer::default()
        };
        let error = check(&raw, answer).await.unwrap_err();
        assert!(error.is_outage(), "{status:?}: {error}");
    }
    let late = Answer {
        headers: headers(&[GRPC, ("grpc-status", "0")]),
        message: Some(ALLOW.into()),
        trailers: headers(&[("grpc-status", "7")]),
        ..Answer::default()
    };
    check(&raw, late).await.unwrap_err();
}

#[tokio::test]
async fn undecodable_message_is_the_outage_of_one_login() {
    let raw = RawPortal::start(|_| {}).await;
    for message in [None, Some(vec![0xff; 9])] {
        let answer = Answer {
            headers: headers(&[GRPC]),
            message,
            trailers: headers(&[("grpc-status", "0")]),
            ..Answer::default()
        };
        let error = check(&raw, answer).await.unwrap_err();
        assert_eq!(error.meaning(), Meaning::InvalidAnswer, "{error}");
    }
}

#[tokio::test]
async fn invalid_status_details_do_not_panic() {
    let raw = RawPortal::start(|_| {}).await;
    let answer = Answer {
        headers: headers(&[GRPC, ("grpc-status", "14"), ("grpc-status-details-bin", "***")]),
        ..Answer::default()
    };
    let error = check(&raw, answer).await.unwrap_err();
    assert!(error.is_outage(), "{error}");
}
