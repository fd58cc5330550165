//! Bearer tokens: the host verifies them.

use std::ffi::{CStr, c_char, c_void};
use std::sync::Arc;

use super::bytes::ph_bytes;
use super::callback::Callback;
use crate::error::{Error, Kind, Result};
use crate::service::login::{TokenRequest, TokenVerifier};

/// Octets for the name that a ph_token_fn gives, with its NUL.
pub const PH_TOKEN_NAME_SIZE: u32 = 1024;

/// A token is nobody's, or not valid here.
pub const PH_TOKEN_REFUSED: i32 = 0;
/// A token is valid; the name says whose.
pub const PH_TOKEN_VALID: i32 = 1;
/// It cannot be told now: the client is told to try again later.
pub const PH_TOKEN_UNAVAILABLE: i32 = 2;

/// A bearer token to verify (OAUTHBEARER, RFC 7628; XOAUTH2).
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ph_token_request {
    /// sizeof(ph_token_request) of the library.
    pub struct_size: u32,
    /// The port that the client believes to talk to; 0: not said.
    pub port: u32,
    /// OAUTHBEARER or XOAUTH2.
    pub mechanism: ph_bytes,
    /// The login name that the client gave; may be empty with OAUTHBEARER.
    pub login: ph_bytes,
    /// The token.
    pub token: ph_bytes,
    /// The host that the client believes to talk to; may be empty.
    pub host: ph_bytes,
    /// The peer's address with port.
    pub peer: ph_bytes,
}

/// Verifies a bearer token.
///
/// request and everything that it points to are borrowed for the duration of the call; request->struct_size is the library's; read only
/// fields that lie below it. name has PH_TOKEN_NAME_SIZE octets, zero: whose token it is goes there, as a login name or primary address,
/// NUL-terminated UTF-8.
/// Returns: PH_TOKEN_VALID, PH_TOKEN_REFUSED or PH_TOKEN_UNAVAILABLE. Anything else counts as PH_TOKEN_UNAVAILABLE.
/// Thread: a worker thread of the engine, several at once. May block. Must not throw or jump out, and must not call the same engine or
/// anything made from it (PH_E_REENTRANT).
pub type ph_token_fn = Option<
    unsafe extern "C" fn(
        user_data: *mut c_void,
        request: *const ph_token_request,
        name: *mut c_char,
    ) -> i32,
>;

pub(super) type TokenFn =
    unsafe extern "C" fn(*mut c_void, *const ph_token_request, *mut c_char) -> i32;

/// The host's function as a verifier.
pub(super) struct HostVerifier(pub(super) Arc<Callback<TokenFn>>);

impl TokenVerifier for HostVerifier {
    fn verify(&self, request: &TokenRequest<'_>) -> Result<Option<String>> {
        let peer = request.peer.to_string();
        let asked = ph_token_request {
            struct_size: size_of::<ph_token_request>() as u32,
            port: request.port.into(),
            mechanism: ph_bytes::new(request.mechanism.name().as_bytes()),
            login: ph_bytes::new(request.login.as_bytes()),
            token: ph_bytes::new(request.token.as_bytes()),
            host: ph_bytes::new(request.host.as_bytes()),
            peer: ph_bytes::new(peer.as_bytes()),
        };
        let mut name = [0_u8; PH_TOKEN_NAME_SIZE as usize];
        let mut said = PH_TOKEN_UNAVAILABLE;
        self.0.call(|function, user_data| {
            // SAFETY: the host's function with the host's data, as documented at ph_token_fn.
            said = unsafe { function(user_data, &raw const asked, name.as_mut_ptr().cast()) };
        });
        match said {
            PH_TOKEN_REFUSED => Ok(None),
            PH_TOKEN_VALID => {
                let name =
                    CStr::from_bytes_until_nul(&name).ok().and_then(|name| name.to_str().ok());
                name.map(|name| Some(name.to_owned())).ok_or_else(|| {
                    let text =
                        "the host's ph_token_fn gave a name that is no text with a NUL at its end";
                    Error::new(Kind::Utf8, text)
                })
            }
            _ => Err(Error::new(Kind::Internal, "the host's ph_token_fn cannot tell now")),
        }
    }
}
