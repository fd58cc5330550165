/*
 * posthouse.h: the C interface of Posthouse 0.1.0, the mail engine that other programs
 * embed.
 *
 * Made from the library's sources; do not edit. What this header does not name is not public.
 *
 * == What it is ==
 *
 * Posthouse receives mail over SMTP, keeps it in a queue and in mailboxes that survive power
 * cuts, and serves it over POP3. It is a library: no daemon, no global state, no signal
 * handlers. Link with -lposthouse. There are two ways in:
 *
 * Engine   A ph_engine opens an instance (a directory made by ph_instance_setup) and, when
 *          started, owns listeners, threads, TLS, queue and mailboxes. Several may live in one
 *          process.
 * Session  A ph_smtp_server, ph_smtp_client or ph_pop3_server is one connection's protocol alone. The
 *          host owns sockets, clock and storage: it feeds octets, answers events, and writes out
 *          what is pending.
 *
 * == Example: a mail server ==
 *
 * @example
 * #include <stdio.h>
 * #include "posthouse.h"
 *
 * int main(void)
 * {
 *     const char *domain = "example.test", *listener = "smtp=127.0.0.1:2525";
 *     ph_setup_options setup = PH_SETUP_OPTIONS_INIT;
 *     ph_error err = PH_ERROR_INIT;
 *     ph_engine *engine = NULL;
 *
 *     setup.hostname = "mail.example.test";
 *     setup.domains = &domain, setup.domain_count = 1;
 *     setup.listeners = &listener, setup.listener_count = 1;
 *     setup.postmaster_password = ph_bytes_of("correct horse");
 *     if ((ph_instance_setup("mail", &setup, &err) != PH_OK && err.code != PH_E_EXISTS)
 *         || ph_engine_open("mail", NULL, &engine, &err) != PH_OK
 *         || ph_engine_start(engine, &err) != PH_OK)
 *         fprintf(stderr, "%s\n", err.message);
 *     else
 *         getchar();
 *     return ph_engine_close(engine, NULL) != PH_OK || err.code != PH_OK;
 * }
 * @end
 *
 * == Errors ==
 *
 * Nearly every function returns a ph_status: PH_OK (0), or a negative number, one of PH_E_...
 * Numbers are grouped by hundreds (1xx misuse, 2xx operating system, 3xx storage, 4xx protocol,
 * 5xx TLS, 7xx limits and policy, 8xx life of an instance, 9xx internal) and never get another
 * meaning. Later versions add numbers: treat one that you do not know like the others of its
 * hundred. The only positive status is PH_END, from a cursor without a next row.
 *
 * Functions that can fail for a reason worth reading take a ph_error as last parameter, or NULL.
 * It is the caller's, so it works in constructors and on every thread; start with PH_ERROR_INIT.
 * Its message is one line that names the object.
 *
 * PH_E_INTERNAL is a defect of the library, caught at this boundary. The handle is then
 * unusable: every call on it answers PH_E_INTERNAL, only its free or close works. Other handles
 * are not touched. The library is never the one to abort the process.
 *
 * == Ownership ==
 *
 * A handle is a pointer to a struct that this header does not show. Made by a function that has
 * an out parameter, it is the caller's, and ends with exactly one call of its free or close,
 * where NULL does nothing. What is made from an engine (cursors, messages, checks) keeps alive
 * what it needs: handles may be ended in any order.
 *
 * Views (ph_bytes, and pointers in rows and events) are borrowed; each function and struct says
 * until when. What the host gives is copied before the call returns, unless a function says
 * otherwise. Text from the wire, and whatever could hold a NUL, is a ph_bytes; paths, host names
 * and static text are NUL-terminated UTF-8.
 *
 * == Structs that grow ==
 *
 * Option, filter and row structs begin with struct_size, which the caller sets, best with the
 * struct's _INIT macro. All other fields zero means the defaults. Later versions add fields at
 * the end: a library that knows fewer fields than the caller accepts the struct when the rest is
 * zero (else PH_E_STRUCT_SIZE), and fills in zero on the way out.
 *
 * == Threads ==
 *
 * Each function says who may call it: "any thread" (several at once), or "one at a time" (any
 * thread, but never two calls at once on the same handle; debug builds of the library notice and
 * answer PH_E_BUSY). Different handles never disturb one another. Ending a handle must be the
 * last call on it.
 *
 * == Callbacks ==
 *
 * A callback is a function with a user_data and a function that drops the user_data. The library
 * calls the drop function exactly once, when the callback is used no more. Callbacks run on the
 * engine's threads, several at once: return soon, and hand work to a thread of your own. A
 * callback must not call the engine that calls it, nor anything made from it (PH_E_REENTRANT;
 * nothing happens), and must not leave by exception or longjmp. Once ph_engine_close has
 * returned, no callback runs.
 *
 * == Versions ==
 *
 * The interface grows and does not break. PH_VERSION and PH_ABI_LEVEL say what the host was
 * compiled with, ph_version_str and ph_abi_level what is loaded: it must be the same level or a
 * higher one. Each function says since when it is there.
 */
#ifndef POSTHOUSE_H
#define POSTHOUSE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/** The version of this header. */
#define PH_VERSION "0.1.0"

/** No deadline: the largest time. */
#define PH_NEVER ((uint64_t)-1)

/*
 * == Constants ==
 */

/** An argument has a value that the function does not accept. */
#define PH_E_INVALID_ARGUMENT (-101)

/** A pointer that must not be NULL is NULL. */
#define PH_E_NULL (-102)

/** `struct_size` is not one this library knows, or an unknown tail is not zero. */
#define PH_E_STRUCT_SIZE (-103)

/** A callback called back into the handle that is calling it. */
#define PH_E_REENTRANT (-104)

/** Another thread is inside a call on this one-at-a-time handle. */
#define PH_E_BUSY (-105)

/** The call does not fit the state of the object. */
#define PH_E_STATE (-106)

/** Text that must be UTF-8 is not. */
#define PH_E_UTF8 (-107)

/** The caller's buffer is too small; the needed size is reported. */
#define PH_E_BUFFER_TOO_SMALL (-108)

/** The named object (account, alias, mailbox, message) does not exist. */
#define PH_E_NOT_FOUND (-109)

/** The named object exists already. */
#define PH_E_EXISTS (-110)

/** The operating system reported an error. */
#define PH_E_IO (-201)

/** A path does not exist. */
#define PH_E_PATH_NOT_FOUND (-202)

/** The operating system denied access. */
#define PH_E_PERMISSION (-203)

/** A listener's address is in use by another socket. */
#define PH_E_ADDRESS_IN_USE (-204)

/** A listener's address is not one of this machine, or cannot be parsed. */
#define PH_E_ADDRESS_INVALID (-205)

/** The file system is full, or nearly so. */
#define PH_E_DISK_FULL (-206)

/** Another process, or another engine of this process, has the instance open. */
#define PH_E_LOCKED (-301)

/** Stored data failed its checksum or its grammar. */
#define PH_E_CORRUPT (-302)

/** The instance was written by a newer version than this one can read. */
#define PH_E_FORMAT_NEWER (-303)

/** The store, or a lane of it, is read-only after a write error. */
#define PH_E_READ_ONLY (-304)

/** The directory holds no instance. */
#define PH_E_NOT_AN_INSTANCE (-305)

/** The index is being repaired; the call can be made again later. */
#define PH_E_REBUILDING (-306)

/** The peer, or the caller of a session, broke the protocol. */
#define PH_E_PROTOCOL (-401)

/** A certificate cannot be read or used. */
#define PH_E_CERTIFICATE (-501)

/** A private key cannot be read or does not fit its certificate. */
#define PH_E_PRIVATE_KEY (-502)

/** The TLS layer failed. */
#define PH_E_TLS (-503)

/** A named limit was reached. */
#define PH_E_LIMIT (-701)

/** Policy refuses the request. */
#define PH_E_REFUSED (-702)

/** A login name or password is wrong. */
#define PH_E_CREDENTIALS (-703)

/** A new password does not meet the rules. */
#define PH_E_PASSWORD (-704)

/** An address does not have the form of a mail address. */
#define PH_E_ADDRESS (-705)

/** The configuration has an error. */
#define PH_E_CONFIG (-801)

/** The engine is stopping or stopped. */
#define PH_E_STOPPED (-802)

/** A defect of this library; the handle is unusable except for closing it. */
#define PH_E_INTERNAL (-901)

/*
 * == Other constants, and types ==
 */

/** The call did what it says. */
#define PH_OK 0

/** A cursor has no next row. Not an error. */
#define PH_END 1

/** Octets of ph_error.message, the NUL at its end included. */
#define PH_ERROR_MESSAGE_SIZE 256

/**
 * The ABI that this header describes. A library of a higher level has everything of the lower
 * ones.
 */
#define PH_ABI_LEVEL 1

/** TLS of a new instance: none. */
#define PH_TLS_NONE 0

/** TLS of a new instance: certificate_file and key_file are checked and copied into it. */
#define PH_TLS_FILES 1

/** TLS of a new instance: a self-signed certificate for the host name is made. */
#define PH_TLS_SELF_SIGNED 2

/** Log level: something must be done by somebody. */
#define PH_LOG_ERROR 1

/** Log level: something is not as it should be. */
#define PH_LOG_WARN 2

/** Log level: what an operator wants to know. The default. */
#define PH_LOG_INFO 3

/** Log level: what a developer wants to know. */
#define PH_LOG_DEBUG 4

/** Log level: everything. */
#define PH_LOG_TRACE 5

/** Event: a listener serves. name is the listener's, address its address with port. */
#define PH_EVENT_LISTENING 1

/**
 * Event: a message is on disk and acknowledged. message_id, size, local, remote; address is the
 * reverse-path, peer where it came from, empty for ph_engine_submit; session, 0 for
 * ph_engine_submit.
 */
#define PH_EVENT_MESSAGE_ACCEPTED 2

/**
 * Event: a recipient was refused. address is the forward-path, code the SMTP reply code, peer who
 * tried.
 */
#define PH_EVENT_RECIPIENT_REFUSED 3

/** Event: a login succeeded (code 1) or failed (code 0). name is the login name, peer who tried. */
#define PH_EVENT_LOGIN 4

/** Event: the engine has stopped serving. */
#define PH_EVENT_STOPPED 5

/**
 * Event: a lane of the store cannot be written. code is the lane, name why, in words. Mail for it
 * is answered 451, new SMTP connections 421; reading goes on. It is tried again by itself.
 */
#define PH_EVENT_STORE_READ_ONLY 6

/** Event: a lane of the store can be written again. code is the lane. */
#define PH_EVENT_STORE_WRITABLE 7

/** Event: space is low. Mail is refused with 452; everything else goes on. */
#define PH_EVENT_SPACE_LOW 8

/** Event: the disk was found full. As PH_EVENT_SPACE_LOW; the store has given up its ballast. */
#define PH_EVENT_SPACE_FULL 9

/** Event: there is enough space again, mail is taken. */
#define PH_EVENT_SPACE_AMPLE 10

/**
 * Event: data that was acknowledged is damaged on disk. name is what and where, in words. Found
 * when the instance was opened, by a scrub, by an export of the index or by a repair of it; each
 * finding is told once, everything else is served. ph_repair (or posthouse repair) says what is
 * lost.
 */
#define PH_EVENT_DAMAGE 11

/**
 * Event: the index of a lane had failed, was repaired, and serves again; nothing is lost. code is
 * the lane, name what had failed, in words.
 */
#define PH_EVENT_INDEX_REPAIRED 12

/**
 * Event: an SMTP, submission or LMTP session has begun. session is its number, name the service
 * ("smtp", "submission", "lmtp"), peer who speaks.
 */
#define PH_EVENT_SESSION_BEGUN 13

/**
 * Event: a session has ended. session, name and peer as when it began; address is the reason:
 * "quit", "closed" (by this side), "lost" (by the other, without QUIT). local is how many messages
 * were accepted, remote how many recipients refused.
 */
#define PH_EVENT_SESSION_ENDED 14

/**
 * Event: the other server has a queued message for a recipient. message_id; address is the
 * recipient, peer the server, name what it answered, code how many attempts it took.
 */
#define PH_EVENT_DELIVERED 15

/**
 * Event: a queued message could not be delivered to a recipient now. As PH_EVENT_DELIVERED;
 * time_ms is when it is tried again at the earliest. When the server could not be asked, name says
 * why.
 */
#define PH_EVENT_DEFERRED 16

/**
 * Event: a queued message will not be delivered to a recipient. As PH_EVENT_DELIVERED. The entry
 * stays in the queue, the recipient as PH_RECIPIENT_FAILED.
 */
#define PH_EVENT_FAILED 17

/**
 * Policy question: a connection has begun; may it speak? A refusal with 421 or 554 turns it away.
 */
#define PH_POLICY_CONNECT 1

/** Policy question: HELO, EHLO or LHLO. address is what the peer calls itself. */
#define PH_POLICY_HELLO 2

/** Policy question: a login that is right; may it be used? login is the account's. */
#define PH_POLICY_AUTH 3

/**
 * Policy question: MAIL. address is the reverse-path (empty: the null path), parameters what is
 * passed on of its parameters.
 */
#define PH_POLICY_MAIL 4

/**
 * Policy question: RCPT. address is the forward-path, parameters what is passed on of its
 * parameters.
 */
#define PH_POLICY_RCPT 5

/** Policy question: DATA, or the first BDAT. recipients were accepted. */
#define PH_POLICY_DATA 6

/**
 * Policy question: the message is whole, of size octets, with the queue id message_id, and not yet
 * accepted.
 */
#define PH_POLICY_END 7

/** Answer to a policy question: go on. */
#define PH_POLICY_ACCEPT 0

/** Answer to a policy question: refuse, as the answer's struct says. */
#define PH_POLICY_REFUSE 1

/**
 * Answer to a policy question: the ph_verdict that was taken says it. Without one taken the peer
 * is told to come again.
 */
#define PH_POLICY_LATER 2

/** Octets for the name that a ph_token_fn gives, with its NUL. */
#define PH_TOKEN_NAME_SIZE 1024

/** A token is nobody's, or not valid here. */
#define PH_TOKEN_REFUSED 0

/** A token is valid; the name says whose. */
#define PH_TOKEN_VALID 1

/** It cannot be told now: the client is told to try again later. */
#define PH_TOKEN_UNAVAILABLE 2

/** A host is locked out, with every login name. */
#define PH_LOCKOUT_HOST 1

/** A login name is locked, for hosts from which it has not logged in before. */
#define PH_LOCKOUT_LOGIN 2

/** A recipient waits for delivery to another server. */
#define PH_RECIPIENT_REMOTE 1

/** A recipient waits to be put into a mailbox of this instance. */
#define PH_RECIPIENT_LOCAL 2

/** A recipient is held by an operator. */
#define PH_RECIPIENT_HELD 3

/** A recipient was tried, or is to wait on the sender's wish, and is tried (again) later. */
#define PH_RECIPIENT_DEFERRED 4

/** A recipient will not get the message; the entry is kept so that somebody learns of it. */
#define PH_RECIPIENT_FAILED 5

/** The number of every account's INBOX. */
#define PH_MAILBOX_INBOX 1

/** Message flag: seen (RFC 9051 2.3.2). */
#define PH_FLAG_SEEN 1

/** Message flag: answered. */
#define PH_FLAG_ANSWERED 2

/** Message flag: flagged. */
#define PH_FLAG_FLAGGED 4

/** Message flag: deleted. */
#define PH_FLAG_DELETED 8

/** Message flag: draft. */
#define PH_FLAG_DRAFT 16

/** Room on the disk: enough for everything. */
#define PH_SPACE_AMPLE 0

/** Room on the disk: little. Messages are refused with 452; everything else goes on. */
#define PH_SPACE_LOW 1

/**
 * Room on the disk: none, or it was met to be none. As PH_SPACE_LOW, and the ballast is given up.
 */
#define PH_SPACE_FULL 2

/**
 * Connection: all input is used up, or what is left is not a whole unit yet. Write out what is
 * pending, then read more or wait for the time-out.
 */
#define PH_CONNECTION_NEED_INPUT 1

/** Connection: too much output is pending. Write it out, then step again. */
#define PH_CONNECTION_BLOCKED 2

/**
 * Connection: the engine works on an answer. Write out what is pending, keep the input, stop
 * reading, and step again when ready was called.
 */
#define PH_CONNECTION_WAITING 3

/**
 * Connection: the peer asked for TLS, which the host makes. Write out what is pending, make the
 * handshake, then ph_connection_tls_started.
 */
#define PH_CONNECTION_STARTTLS 4

/** Connection: it is over. Write out what is pending, close the socket, and ph_connection_free. */
#define PH_CONNECTION_CLOSED 5

/** TLS of a connection: none, and none is offered. */
#define PH_CONNECTION_TLS_NONE 0

/**
 * TLS of a connection: the engine makes it with its certificate. What goes in and out of the
 * connection is then ciphertext.
 */
#define PH_CONNECTION_TLS_ENGINE 1

/**
 * TLS of a connection: the host makes it. What goes in and out of the connection is always
 * plaintext.
 */
#define PH_CONNECTION_TLS_HOST 2

/** A line of a repair's report: something that was mended. */
#define PH_REPAIR_MENDED 1

/** A line of a repair's report: acknowledged data that is damaged, with file and range. */
#define PH_REPAIR_DAMAGED 2

/**
 * A line of a repair's report: a message that is lost, with account, mailbox and UID, or the
 * queue.
 */
#define PH_REPAIR_LOST 3

/** A line of a repair's report: a problem that is left. */
#define PH_REPAIR_LEFT 4

/** Mechanism PLAIN (RFC 4616). */
#define PH_MECHANISM_PLAIN 1

/** Mechanism LOGIN. */
#define PH_MECHANISM_LOGIN 2

/** Mechanism CRAM-MD5 (RFC 2195), for old clients. */
#define PH_MECHANISM_CRAM_MD5 4

/** Mechanism SCRAM-SHA-256 (RFC 7677). */
#define PH_MECHANISM_SCRAM_SHA_256 8

/** Mechanism SCRAM-SHA-256-PLUS (RFC 7677), bound to the TLS channel. */
#define PH_MECHANISM_SCRAM_SHA_256_PLUS 16

/** Mechanism OAUTHBEARER (RFC 7628). */
#define PH_MECHANISM_OAUTHBEARER 32

/** Mechanism XOAUTH2. */
#define PH_MECHANISM_XOAUTH2 64

/** Octets of a nonce. */
#define PH_NONCE_SIZE 18

/**
 * Session extension: DSN (RFC 3461). RET, ENVID, NOTIFY and ORCPT come in the events' parameters.
 */
#define PH_SMTP_EXTENSION_DSN 1

/**
 * Session extension: BINARYMIME (RFC 3030). Such a message may hold any octets
 * (PH_SMTP_FLAG_BINARY).
 */
#define PH_SMTP_EXTENSION_BINARYMIME 2

/** Session extension: REQUIRETLS (RFC 8689), offered under TLS only (PH_SMTP_FLAG_REQUIRETLS). */
#define PH_SMTP_EXTENSION_REQUIRETLS 4

/** Session extension: MT-PRIORITY (RFC 6710). */
#define PH_SMTP_EXTENSION_MT_PRIORITY 8

/** Session extension: ETRN (RFC 1985); each is PH_SMTP_ETRN. */
#define PH_SMTP_EXTENSION_ETRN 16

/**
 * Session extension: LIMITS (RFC 9422): announce how many transactions, recipients and domains are
 * taken. They are enforced in any case.
 */
#define PH_SMTP_EXTENSION_LIMITS 32

/** Session extension: DELIVERBY (RFC 2852), with deliver_by_least. */
#define PH_SMTP_EXTENSION_DELIVERBY 64

/**
 * Session extension: XCLIENT. Only for a peer that the host trusts to speak for other clients;
 * each is PH_SMTP_FORWARDED.
 */
#define PH_SMTP_EXTENSION_XCLIENT 128

/**
 * Session extension: a bare LF ends a command line and a line of DATA, where it becomes CR LF.
 * Only for old clients on the host's own network. The end of the data stays CR LF . CR LF alone.
 */
#define PH_SMTP_EXTENSION_BARE_LF 256

/** Session extension turned off: 8BITMIME (RFC 6152) is not offered. */
#define PH_SMTP_EXTENSION_NO_8BITMIME 65536

/** Session extension turned off: SMTPUTF8 (RFC 6531) is not offered. */
#define PH_SMTP_EXTENSION_NO_SMTPUTF8 131072

/** Session extension turned off: HELP is answered 502. */
#define PH_SMTP_EXTENSION_NO_HELP 262144

/** VRFY or EXPN: answered 502. The default of EXPN. */
#define PH_SMTP_LOOKUP_WITHHELD 1

/** VRFY or EXPN: answered 252, whatever was asked. The default of VRFY. */
#define PH_SMTP_LOOKUP_UNTOLD 2

/** VRFY or EXPN: answered by the host; each is PH_SMTP_VERIFY or PH_SMTP_EXPAND. */
#define PH_SMTP_LOOKUP_ASKED 3

/** Session dialect: mail from other servers (RFC 5321). */
#define PH_SMTP_DIALECT_SMTP 0

/** Session dialect: mail from users' programs, AUTH is needed before MAIL (RFC 6409). */
#define PH_SMTP_DIALECT_SUBMISSION 1

/**
 * Session dialect: local delivery, LHLO and a reply for each recipient at a message's end (RFC
 * 2033). Not for port 25.
 */
#define PH_SMTP_DIALECT_LMTP 2

/** Connection: TLS is on. */
#define PH_OFFER_TLS 1

/**
 * Connection: STARTTLS (SMTP) or STLS (POP3) may be offered. Has no effect together with
 * PH_OFFER_TLS.
 */
#define PH_OFFER_STARTTLS 2

/** Connection: AUTH may be offered and logging in is allowed. */
#define PH_OFFER_AUTH 4

/** The host's answer to a login: the client is who it says. */
#define PH_AUTH_ACCEPT 1

/** The host's answer to a login: wrong login name or password. */
#define PH_AUTH_REFUSE 2

/** The host's answer to a login: it cannot be told now. */
#define PH_AUTH_UNAVAILABLE 3

/**
 * Session: all input is used up, or what is left is not a whole unit yet. Wait for more, or for
 * the deadline.
 */
#define PH_SMTP_NEED_INPUT 1

/** Session: too much output is pending. Write it out, then step again. */
#define PH_SMTP_BLOCKED 2

/** Session: it is over. Write out what is pending and close the connection. */
#define PH_SMTP_CLOSED 3

/**
 * Session: the connection begins, nothing was sent. Answer: ph_smtp_server_accept greets;
 * ph_smtp_server_reply with 421 or 554 turns the peer away.
 */
#define PH_SMTP_CONNECT 10

/**
 * Session: HELO, EHLO or LHLO (the last two: PH_SMTP_FLAG_EXTENDED); data is what the peer calls
 * itself. Answer: accept or reply.
 */
#define PH_SMTP_HELLO 11

/**
 * Session: the 220 for STARTTLS is pending. Write it out, make the handshake, then answer:
 * ph_smtp_server_tls_started.
 */
#define PH_SMTP_STARTTLS 12

/** Session: a client logs in with login, password, authorization. Answer: ph_smtp_server_auth. */
#define PH_SMTP_AUTH 13

/**
 * Session: MAIL; address is the reverse-path, empty for the null path; size is the announced size
 * or 0; flags; parameters are those that must be passed on; hold_seconds, hold_until. Answer:
 * accept or reply.
 */
#define PH_SMTP_MAIL 14

/**
 * Session: RCPT; address is the forward-path; parameters are those that must be passed on. Answer:
 * accept or reply.
 */
#define PH_SMTP_RCPT 15

/** Session: a message is about to begin. Answer: accept or reply. */
#define PH_SMTP_DATA_START 16

/** Session: data is a piece of the message, dots removed, CR LF kept. No answer. */
#define PH_SMTP_DATA_CHUNK 17

/**
 * Session: the message is whole and has size octets. Answer, when it is safe: accept or reply; in
 * LMTP for each of the recipients by ph_smtp_server_reply_recipient, or once for all by accept or
 * reply.
 */
#define PH_SMTP_DATA_END 18

/**
 * Session: the transaction is over without a message; forget its MAIL, RCPT and DATA_CHUNK events.
 * No answer.
 */
#define PH_SMTP_RESET 19

/** Session: QUIT; the reply is pending. No answer. */
#define PH_SMTP_QUIT 20

/**
 * Session: VRFY; data is what is asked for, flags say PH_SMTP_FLAG_SMTPUTF8 when the answer may be
 * UTF-8. Answer: accept (252) or reply.
 */
#define PH_SMTP_VERIFY 21

/** Session: EXPN; as PH_SMTP_VERIFY. */
#define PH_SMTP_EXPAND 22

/**
 * Session: ETRN; data is the node (RFC 1985 5): a domain, behind @ with its subdomains, behind # a
 * queue. Answer: accept (250) or reply.
 */
#define PH_SMTP_ETRN 23

/**
 * Session: XCLIENT; the connection is in truth that of another client. parameters are what the
 * proxy says (NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT, values in xtext); address is
 * ADDR, login is LOGIN, which makes the session authenticated. Answer: accept greets the client;
 * reply with 421 or 554 turns it away.
 */
#define PH_SMTP_FORWARDED 24

/** Session: CRAM-MD5 begins and needs a nonce. Answer: ph_smtp_server_auth_nonce. */
#define PH_SMTP_AUTH_NONCE 30

/**
 * Session: SCRAM-SHA-256 needs the keys of login. Answer: ph_smtp_server_auth_scram, for names
 * that nobody has with keys of ph_scram_decoy.
 */
#define PH_SMTP_AUTH_SCRAM 31

/**
 * Session: a client logs in with login; challenge and, in password, the digest of CRAM-MD5, which
 * ph_cram_md5_verify or the host verifies. Answer: ph_smtp_server_auth.
 */
#define PH_SMTP_AUTH_CRAM_MD5 32

/**
 * Session: a client logs in with a bearer token, in password; login may be empty. Answer:
 * ph_smtp_server_auth.
 */
#define PH_SMTP_AUTH_TOKEN 33

/**
 * Session: SCRAM-SHA-256 has come to its end for login and authorization: the client knows the
 * password (PH_SMTP_FLAG_PROVED), or it has failed, and whatever the answer is, is refused.
 * Answer: ph_smtp_server_auth.
 */
#define PH_SMTP_AUTH_OUTCOME 34

/** Event flag: the session waits for an answer and must not be stepped before it. */
#define PH_SMTP_FLAG_PAUSED 1

/** Event flag: EHLO and not HELO. */
#define PH_SMTP_FLAG_EXTENDED 2

/** Event flag: MAIL carried BODY=8BITMIME (RFC 6152). */
#define PH_SMTP_FLAG_8BIT 4

/** Event flag: MAIL carried SMTPUTF8 (RFC 6531). */
#define PH_SMTP_FLAG_SMTPUTF8 8

/** Event flag: MAIL carried BODY=BINARYMIME (RFC 3030): the message may hold any octets. */
#define PH_SMTP_FLAG_BINARY 16

/** Event flag: MAIL carried REQUIRETLS (RFC 8689). */
#define PH_SMTP_FLAG_REQUIRETLS 32

/** Event flag: the client has proved that it knows the password. */
#define PH_SMTP_FLAG_PROVED 256

/** Client option: the peer speaks LMTP (RFC 2033). */
#define PH_SMTP_CLIENT_LMTP 1

/** Client option: the connection is under TLS from its beginning (RFC 8314). */
#define PH_SMTP_CLIENT_UNDER_TLS 2

/**
 * Client option: never use STARTTLS. Without this and PH_SMTP_CLIENT_TLS_REQUIRED it is used when
 * it is offered.
 */
#define PH_SMTP_CLIENT_TLS_NEVER 4

/** Client option: a peer that does not offer STARTTLS, or refuses it, gets nothing. */
#define PH_SMTP_CLIENT_TLS_REQUIRED 8

/** Client option: send credentials without TLS, too. */
#define PH_SMTP_CLIENT_AUTH_IN_CLEAR 16

/** Client option: the secret is a token for OAUTHBEARER and XOAUTH2, and not a password. */
#define PH_SMTP_CLIENT_TOKEN 32

/** Client option: do not use PIPELINING (RFC 2920). */
#define PH_SMTP_CLIENT_NO_PIPELINING 64

/** Client option: do not use CHUNKING (RFC 3030), which binary messages need. */
#define PH_SMTP_CLIENT_NO_CHUNKING 128

/**
 * Client option: send an 8-bit message as it is to a peer without 8BITMIME. Otherwise it is
 * bounced with 5.6.3.
 */
#define PH_SMTP_CLIENT_SEND_8BIT 256

/** Client option: refuse a message that holds a bare CR or LF. Otherwise each becomes CR LF. */
#define PH_SMTP_CLIENT_REFUSE_LINE_ENDS 512

/**
 * Client session: all input is used up, or what is left is not a whole line yet. Wait for more,
 * for the deadline, or begin.
 */
#define PH_SMTP_CLIENT_NEED_INPUT 1

/** Client session: too much output is pending. Write it out, then step again. */
#define PH_SMTP_CLIENT_BLOCKED 2

/** Client session: it is over. Write out what is pending and close the connection. */
#define PH_SMTP_CLIENT_CLOSED 3

/**
 * Client session: make the TLS handshake, then call ph_smtp_client_tls_started or
 * ph_smtp_client_tls_failed.
 */
#define PH_SMTP_CLIENT_STARTTLS 10

/**
 * Client session: greeted, under TLS and logged in as the options say: call ph_smtp_client_begin
 * or ph_smtp_client_quit.
 */
#define PH_SMTP_CLIENT_READY 11

/**
 * Client session: what came of the recipient index: verdict, origin, phase, code, enhanced status
 * code, text, flags. Once for each.
 */
#define PH_SMTP_CLIENT_RECIPIENT 12

/**
 * Client session: the next piece of the message is wanted, at most size octets: call
 * ph_smtp_client_body, _body_end or _body_failed. Comes again until that is done.
 */
#define PH_SMTP_CLIENT_NEED_BODY 13

/**
 * Client session: the transaction is over; size recipients have the message. Begin another or
 * quit, unless flags has PH_SMTP_CLIENT_FLAG_CLOSING.
 */
#define PH_SMTP_CLIENT_DONE 14

/**
 * Client session: nothing can be sent on this connection; verdict, origin, phase, code, enhanced
 * status code and text say why. PH_SMTP_CLIENT_CLOSED follows.
 */
#define PH_SMTP_CLIENT_FAILED 15

/** Verdict: the peer has the message for this recipient. */
#define PH_VERDICT_DELIVERED 1

/** Verdict: not delivered; try again later. */
#define PH_VERDICT_TEMPORARY 2

/** Verdict: not delivered, and never will be. */
#define PH_VERDICT_PERMANENT 3

/**
 * Verdict: the end of the message was sent and no answer came. The peer may have it: try again
 * later with the same Message-ID.
 */
#define PH_VERDICT_UNKNOWN 4

/**
 * Verdict: not tried, because no more recipients fit into the transaction. Begin another at once.
 */
#define PH_VERDICT_NOT_TRIED 5

/** Origin of a verdict: the peer, in a reply. */
#define PH_ORIGIN_PEER 1

/**
 * Origin of a verdict: this side (the peer's offer does not suffice, a time-out, a lost
 * connection, a broken protocol).
 */
#define PH_ORIGIN_CLIENT 2

/** Phase of a client session: waiting for the greeting. */
#define PH_PHASE_GREETING 1

/** Phase of a client session: EHLO, HELO or LHLO. */
#define PH_PHASE_HELLO 2

/** Phase of a client session: STARTTLS and the handshake. */
#define PH_PHASE_STARTTLS 3

/** Phase of a client session: AUTH. */
#define PH_PHASE_AUTH 4

/** Phase of a client session: between transactions. */
#define PH_PHASE_IDLE 5

/** Phase of a client session: before anything of a transaction was sent. */
#define PH_PHASE_BEGIN 6

/** Phase of a client session: RSET and MAIL. */
#define PH_PHASE_MAIL 7

/** Phase of a client session: RCPT. */
#define PH_PHASE_RCPT 8

/** Phase of a client session: DATA. */
#define PH_PHASE_DATA 9

/** Phase of a client session: the text, its end not included. */
#define PH_PHASE_BODY 10

/** Phase of a client session: the end of the text was sent. */
#define PH_PHASE_END 11

/** Phase of a client session: QUIT. */
#define PH_PHASE_QUIT 12

/** Client event flag: the connection cannot be used for another transaction. */
#define PH_SMTP_CLIENT_FLAG_CLOSING 1

/**
 * Client event flag: the peer answers for delivery status notifications of this recipient (RFC
 * 3461). Without it a delivered recipient with NOTIFY=SUCCESS wants a "relayed" notice from this
 * side.
 */
#define PH_SMTP_CLIENT_FLAG_DSN 2

/** Client event flag: worth another transaction at once, on this connection. */
#define PH_SMTP_CLIENT_FLAG_AGAIN 4

/**
 * Client event flag: TLS failed and nothing demands it: another connection with
 * PH_SMTP_CLIENT_TLS_NEVER may be tried.
 */
#define PH_SMTP_CLIENT_FLAG_CLEAR_MAY_DO 8

/** Client event flag: DSN's parameters were given and the peer lacks DSN. */
#define PH_SMTP_CLIENT_FLAG_DSN_DROPPED 16

/** Client event flag: BY was given in mode N and the peer lacks DELIVERBY. */
#define PH_SMTP_CLIENT_FLAG_DELIVERBY_DROPPED 32

/** Client event flag: MT-PRIORITY was given and the peer lacks it. */
#define PH_SMTP_CLIENT_FLAG_PRIORITY_DROPPED 64

/** Client event flag: HOLDFOR or HOLDUNTIL was given and the peer lacks FUTURERELEASE. */
#define PH_SMTP_CLIENT_FLAG_HOLD_DROPPED 128

/** Message content: lines of ASCII. */
#define PH_CONTENT_7BIT 0

/** Message content: lines of any octets (8BITMIME, RFC 6152). */
#define PH_CONTENT_8BIT 1

/** Message content: any octets, without lines (BINARYMIME, RFC 3030). */
#define PH_CONTENT_BINARY 2

/**
 * Session: all input is used up, or what is left is not a whole line yet. Wait for more, or for
 * the deadline.
 */
#define PH_POP3_NEED_INPUT 1

/** Session: too much output is pending. Write it out, then step again. */
#define PH_POP3_BLOCKED 2

/** Session: it is over. Write out what is pending and close the connection. */
#define PH_POP3_CLOSED 3

/**
 * Session: the connection begins, nothing was sent. Answer: ph_pop3_server_accept greets,
 * ph_pop3_server_refuse turns the peer away.
 */
#define PH_POP3_CONNECT 10

/**
 * Session: the answer to STLS is pending. Write it out, make the handshake, then answer:
 * ph_pop3_server_tls_started.
 */
#define PH_POP3_STARTTLS 11

/**
 * Session: a client logs in with login, password, authorization. Lock its maildrop and answer:
 * ph_pop3_server_opened or ph_pop3_server_denied.
 */
#define PH_POP3_AUTH 12

/**
 * Session: octets of message index (from 0) are needed, from offset on, at most max at once.
 * Answer: ph_pop3_server_body, ph_pop3_server_body_end or ph_pop3_server_body_failed.
 */
#define PH_POP3_NEED_BODY 13

/**
 * Session: QUIT. Remove the messages deleted (numbers from 0, perhaps none), release the
 * maildrop's lock, and answer: ph_pop3_server_updated.
 */
#define PH_POP3_UPDATE 14

/** Session: CRAM-MD5 begins and needs a nonce. Answer: ph_pop3_server_auth_nonce. */
#define PH_POP3_AUTH_NONCE 30

/**
 * Session: SCRAM-SHA-256 needs the keys of login. Answer: ph_pop3_server_auth_scram, for names
 * that nobody has with keys of ph_scram_decoy.
 */
#define PH_POP3_AUTH_SCRAM 31

/**
 * Session: a client logs in with login; challenge and, in password, the digest of CRAM-MD5, which
 * ph_cram_md5_verify or the host verifies. Answer: ph_pop3_server_opened or ph_pop3_server_denied.
 */
#define PH_POP3_AUTH_CRAM_MD5 32

/**
 * Session: a client logs in with a bearer token, in password; login may be empty. Answer:
 * ph_pop3_server_opened or ph_pop3_server_denied.
 */
#define PH_POP3_AUTH_TOKEN 33

/**
 * Session: SCRAM-SHA-256 has come to its end for login and authorization: the client knows the
 * password (PH_POP3_FLAG_PROVED), or it has failed, and whatever the answer is, is refused.
 * Answer: ph_pop3_server_opened or ph_pop3_server_denied.
 */
#define PH_POP3_AUTH_OUTCOME 34

/** Event flag: the session waits for an answer and must not be stepped before it. */
#define PH_POP3_FLAG_PAUSED 1

/** Event flag: the client has proved that it knows the password. */
#define PH_POP3_FLAG_PROVED 256

/** A login does not open the maildrop: wrong login name or password (RFC 3206). */
#define PH_POP3_DENIED_CREDENTIALS 1

/** A login does not open the maildrop: another session holds it (RFC 2449 8.1.2). */
#define PH_POP3_DENIED_IN_USE 2

/** A login does not open the maildrop: something of the host does not work now (RFC 3206). */
#define PH_POP3_DENIED_TEMPORARY 3

/** Goes through accounts. Made by ph_account_list, ended by ph_account_free. */
typedef struct ph_account_cursor ph_account_cursor;

/** Goes through aliases. Made by ph_alias_list, ended by ph_alias_free. */
typedef struct ph_alias_cursor ph_alias_cursor;

/** What a check found. Made by ph_engine_check, ended by ph_check_free. */
typedef struct ph_check ph_check;

/** What a compaction did. Made by ph_engine_compact, ended by ph_compact_free. */
typedef struct ph_compact ph_compact;

/**
 * One connection of the engine on a socket that the host owns.
 *
 * Made by ph_connection_new, ended by ph_connection_free. One thread at a time. The host feeds
 * what it reads with ph_connection_step, writes out what ph_connection_output shows, and waits in
 * its own loop; accounts, mailboxes, queue and rules are the engine's, as on its own listeners.
 */
typedef struct ph_connection ph_connection;

/**
 * An open instance: it recovers and administers when opened, serves when started.
 *
 * Made by ph_engine_open, ended by ph_engine_close. Any thread may use it, several at once;
 * ph_engine_close is the last call on it. What is made from it (cursors, messages, checks) may be
 * destroyed before or after it.
 */
typedef struct ph_engine ph_engine;

/** Goes through listeners. Made by ph_listener_list, ended by ph_listener_free. */
typedef struct ph_listener_cursor ph_listener_cursor;

/** Goes through lock-outs. Made by ph_lockout_list, ended by ph_lockout_free. */
typedef struct ph_lockout_cursor ph_lockout_cursor;

/** Goes through mailboxes. Made by ph_mailbox_list, ended by ph_mailbox_free. */
typedef struct ph_mailbox_cursor ph_mailbox_cursor;

/** A message's octets, open for reading. Made by ph_message_open, ended by ph_message_close. */
typedef struct ph_message ph_message;

/** Goes through the messages of a mailbox. Made by ph_message_list, ended by ph_message_free. */
typedef struct ph_message_cursor ph_message_cursor;

/** The way to answer a question later. Lives as long as the call that it was given to. */
typedef struct ph_policy_later ph_policy_later;

/**
 * The serving side of one POP3 connection, without sockets, threads, clock or storage.
 *
 * Made by ph_pop3_server_new, ended by ph_pop3_server_free. One thread at a time. The host feeds
 * octets with ph_pop3_server_step, answers its events, and writes out what ph_pop3_server_output
 * shows.
 */
typedef struct ph_pop3_server ph_pop3_server;

/** Goes through the queue. Made by ph_queue_list, ended by ph_queue_free. */
typedef struct ph_queue_cursor ph_queue_cursor;

/** What a repair did and found. Made by ph_repair, ended by ph_repair_free. */
typedef struct ph_repair_report ph_repair_report;

/** What a scrub did. Made by ph_engine_scrub, ended by ph_scrub_free. */
typedef struct ph_scrub ph_scrub;

/**
 * The sending side of one SMTP or LMTP connection, without sockets, TLS, threads, clock or
 * storage.
 *
 * Made by ph_smtp_client_new, ended by ph_smtp_client_free. One thread at a time. The host makes
 * the connection, feeds octets with ph_smtp_client_step, acts on its events, and writes out what
 * ph_smtp_client_output shows.
 */
typedef struct ph_smtp_client ph_smtp_client;

/**
 * The receiving side of one SMTP connection, without sockets, threads, clock or storage.
 *
 * Made by ph_smtp_server_new, ended by ph_smtp_server_free. One thread at a time. The host feeds
 * octets with ph_smtp_server_step, answers its events, and writes out what ph_smtp_server_output
 * shows.
 */
typedef struct ph_smtp_server ph_smtp_server;

/**
 * How the store of an engine was at one moment. Made by ph_engine_store_state, ended by
 * ph_store_state_free.
 */
typedef struct ph_store_state ph_store_state;

/** A question that is answered later, once, by ph_verdict_complete. Made by ph_policy_take. */
typedef struct ph_verdict ph_verdict;

/**
 * The result of a call: PH_OK (0), PH_END (1) from a cursor without a next row, or a negative
 * number, one of the constants PH_E_... Numbers are grouped by hundreds and never get another
 * meaning.
 */
typedef int32_t ph_status;

/**
 * Octets with their length: everything that comes from the wire or goes there, and every text that
 * a NUL must not cut short (addresses, names, passwords).
 *
 * Nothing says that a NUL follows the last octet. When len is 0, data may be NULL on the way in,
 * and is never NULL on the way out. What a ph_bytes of the library points to is borrowed; each
 * function and struct says for how long.
 */
typedef struct ph_bytes {
    /** The first octet. */
    const uint8_t *data;
    /** How many. */
    size_t len;
} ph_bytes;

/** What to make an instance of. Begin with PH_SETUP_OPTIONS_INIT. */
typedef struct ph_setup_options {
    /** sizeof(ph_setup_options). */
    uint32_t struct_size;
    /** PH_TLS_... */
    uint32_t tls;
    /** Our name, fully qualified, for instance "mail.example.test". Required. */
    const char *hostname;
    /** The mail domains, at least one; postmaster is in the first. Required. */
    const char *const *domains;
    /** How many. */
    size_t domain_count;
    /**
     * The listeners, each as name=address:port, for instance "smtp=127.0.0.1:2525"; port 0 means
     * any free one. Names: smtp, smtps, submission, submissions, pop3, pop3s.
     */
    const char *const *listeners;
    /** How many. */
    size_t listener_count;
    /** The password of postmaster: at least 8 characters, no white space in front. Required. */
    ph_bytes postmaster_password;
    /** PEM file with the certificate chain, for PH_TLS_FILES. */
    const char *certificate_file;
    /** PEM file with the private key, for PH_TLS_FILES. */
    const char *key_file;
} ph_setup_options;

/** Begins a ph_setup_options: its size, and zero everywhere else. */
#define PH_SETUP_OPTIONS_INIT { \
    (uint32_t)sizeof(ph_setup_options), 0, 0, 0, 0, 0, 0, { 0, 0 }, 0, 0 \
}

/**
 * What went wrong, in a place that the caller owns: works in constructors, on every thread, and
 * where threads are not the system's own.
 *
 * Begin with PH_ERROR_INIT. Every function with a ph_error parameter accepts NULL there. After
 * success code is 0 and message is empty.
 */
typedef struct ph_error {
    /** sizeof(ph_error), set by the caller. */
    uint32_t struct_size;
    /** The number that the function returned. */
    ph_status code;
    /** The operating system's error number (errno, or GetLastError), 0 when there was none. */
    int32_t os_error;
    /** The SMTP reply code that a server would give for this error, 0 when none fits. */
    int32_t smtp_code;
    /**
     * One line of UTF-8 that names the object (the path, the address, the listener), without a
     * line end, with a NUL behind it, cut between two characters when it is too long.
     */
    char message[PH_ERROR_MESSAGE_SIZE];
} ph_error;

/** Begins a ph_error: its size, and zero everywhere else. */
#define PH_ERROR_INIT { \
    (uint32_t)sizeof(ph_error), 0, 0, 0, { 0 } \
}

/**
 * How a refusal reads. The library has set struct_size and zeroed the rest: then it is 451 4.7.1
 * with a text of its own.
 */
typedef struct ph_policy_answer {
    /** sizeof(ph_policy_answer). Begin with PH_POLICY_ANSWER_INIT where the host makes one. */
    uint32_t struct_size;
    /** The reply's code, 400 to 599. 0: 451. */
    uint32_t code;
    /**
     * The enhanced status code's subject (RFC 3463), for instance 7 for policy. With detail 0:
     * 7.1.
     */
    uint32_t subject;
    /** The enhanced status code's detail. */
    uint32_t detail;
    /**
     * What is said, UTF-8, lines divided by \n; read before the call returns. Empty: a text of the
     * library's.
     */
    ph_bytes text;
} ph_policy_answer;

/** Begins a ph_policy_answer: its size, and zero everywhere else. */
#define PH_POLICY_ANSWER_INIT { \
    (uint32_t)sizeof(ph_policy_answer), 0, 0, 0, { 0, 0 } \
}

/**
 * Called for every line of the log.
 *
 * level is one of PH_LOG_..., room the part of the engine that speaks ("runtime", "store"), line
 * the text in UTF-8 without a line end. room and line are borrowed for the duration of the call.
 * Thread: any thread of the engine, several at once. Must return soon, must not throw or jump out,
 * and must not call the same engine or anything made from it (PH_E_REENTRANT).
 */
typedef void (*ph_log_fn)(void *user_data,
                          uint32_t level,
                          ph_bytes room,
                          ph_bytes line);

/**
 * Called once when the library has no more use for a callback's user_data.
 *
 * Thread: the one in ph_engine_close, or in the ph_engine_open that failed. Must not call the
 * engine.
 */
typedef void (*ph_drop_fn)(void *user_data);

/**
 * Something that happened in an engine. A host ignores kinds that it does not know. Fields that a
 * kind does not name are 0 or empty.
 */
typedef struct ph_event {
    /** sizeof(ph_event) of the library. */
    uint32_t struct_size;
    /** PH_EVENT_... */
    uint32_t kind;
    /** A message's id, which is its queue id too. */
    uint64_t message_id;
    /** Octets. */
    uint64_t size;
    /** Accounts that have the message in their INBOX. */
    uint32_t local;
    /** Recipients that wait in the queue. */
    uint32_t remote;
    /** A reply code or an outcome, as the kind says. */
    uint32_t code;
    /** Always 0. */
    uint32_t reserved;
    /** A name. */
    ph_bytes name;
    /** A mail address, or a listener's address. */
    ph_bytes address;
    /** The other side's address and port. */
    ph_bytes peer;
    /** The session's number, from 1 since the engine was opened; 0 when there is none. */
    uint64_t session;
    /** An instant in milliseconds since 1970, as the kind says. */
    uint64_t time_ms;
} ph_event;

/** Begins a ph_event: its size, and zero everywhere else. */
#define PH_EVENT_INIT { \
    (uint32_t)sizeof(ph_event), 0, 0, 0, 0, 0, 0, 0, { 0, 0 }, { 0, 0 }, { 0, 0 }, 0, 0 \
}

/**
 * Called for every event of an engine.
 *
 * event and everything that it points to are borrowed for the duration of the call.
 * event->struct_size is the library's; read only fields that lie below it.
 * Thread: any thread of the engine, several at once. Must return soon, must not throw or jump out,
 * and must not call the same engine or anything made from it (PH_E_REENTRANT).
 */
typedef void (*ph_event_fn)(void *user_data, const ph_event *event);

/** What the host is asked. Fields that a kind does not name are 0 or empty. */
typedef struct ph_policy_question {
    /** sizeof(ph_policy_question) of the library. */
    uint32_t struct_size;
    /** PH_POLICY_CONNECT ... PH_POLICY_END. */
    uint32_t kind;
    /** The session's number, as in the events. */
    uint64_t session;
    /** The message's id, which is its queue id. */
    uint64_t message_id;
    /** Octets of the message as the peer sent them. */
    uint64_t size;
    /** Recipients that were accepted. */
    uint32_t recipients;
    /** 0: no TLS. Else 0x0303 for TLS 1.2, 0x0304 for TLS 1.3. */
    uint32_t tls_version;
    /** smtp, submission or lmtp. */
    ph_bytes service;
    /** The peer's address with port. */
    ph_bytes peer;
    /** What the peer calls itself; empty before it has. */
    ph_bytes hello;
    /** The login name of the account, once authenticated; empty before. */
    ph_bytes login;
    /** A path, or a name, as the kind says. */
    ph_bytes address;
    /** ESMTP parameters as they are passed on, for instance RET=HDRS ENVID=x or NOTIFY=NEVER. */
    ph_bytes parameters;
    /** The cipher suite's registered name (IANA), while TLS is on. */
    ph_bytes tls_cipher;
    /** The name that the client asked for (SNI); empty: none. */
    ph_bytes tls_server_name;
    /** Whom the client's verified certificate names; empty: nobody. */
    ph_bytes tls_client_name;
} ph_policy_question;

/** Begins a ph_policy_question: its size, and zero everywhere else. */
#define PH_POLICY_QUESTION_INIT { \
    (uint32_t)sizeof(ph_policy_question), 0, 0, 0, 0, 0, 0, { 0, 0 }, { 0, 0 }, { 0, 0 }, \
    { 0, 0 }, { 0, 0 }, { 0, 0 }, { 0, 0 }, { 0, 0 }, { 0, 0 } \
}

/**
 * Called at every step of an SMTP, submission or LMTP session, after the engine's own rules have
 * accepted.
 *
 * question and everything that it points to are borrowed for the duration of the call;
 * question->struct_size is the library's; read only fields that lie below it. answer is for a
 * refusal. later makes it possible to answer after the call: take a ph_verdict from it with
 * ph_policy_take and return PH_POLICY_LATER.
 * Returns: PH_POLICY_ACCEPT, PH_POLICY_REFUSE or PH_POLICY_LATER. Anything else is a refusal with
 * 451.
 * Thread: any thread of the engine, several at once. It serves other connections: must return
 * soon, must not throw or jump out, and must not call the same engine or anything made from it
 * (PH_E_REENTRANT), except ph_policy_take.
 */
typedef uint32_t (*ph_policy_fn)(void *user_data,
                                 const ph_policy_question *question,
                                 ph_policy_answer *answer,
                                 ph_policy_later *later);

/** A bearer token to verify (OAUTHBEARER, RFC 7628; XOAUTH2). */
typedef struct ph_token_request {
    /** sizeof(ph_token_request) of the library. */
    uint32_t struct_size;
    /** The port that the client believes to talk to; 0: not said. */
    uint32_t port;
    /** OAUTHBEARER or XOAUTH2. */
    ph_bytes mechanism;
    /** The login name that the client gave; may be empty with OAUTHBEARER. */
    ph_bytes login;
    /** The token. */
    ph_bytes token;
    /** The host that the client believes to talk to; may be empty. */
    ph_bytes host;
    /** The peer's address with port. */
    ph_bytes peer;
} ph_token_request;

/** Begins a ph_token_request: its size, and zero everywhere else. */
#define PH_TOKEN_REQUEST_INIT { \
    (uint32_t)sizeof(ph_token_request), 0, { 0, 0 }, { 0, 0 }, { 0, 0 }, { 0, 0 }, { 0, 0 } \
}

/**
 * Verifies a bearer token.
 *
 * request and everything that it points to are borrowed for the duration of the call;
 * request->struct_size is the library's; read only fields that lie below it. name has
 * PH_TOKEN_NAME_SIZE octets, zero: whose token it is goes there, as a login name or primary
 * address, NUL-terminated UTF-8.
 * Returns: PH_TOKEN_VALID, PH_TOKEN_REFUSED or PH_TOKEN_UNAVAILABLE. Anything else counts as
 * PH_TOKEN_UNAVAILABLE.
 * Thread: a worker thread of the engine, several at once. May block. Must not throw or jump out,
 * and must not call the same engine or anything made from it (PH_E_REENTRANT).
 */
typedef int32_t (*ph_token_fn)(void *user_data, const ph_token_request *request, char *name);

/**
 * How an engine is opened. Begin with PH_ENGINE_OPTIONS_INIT; zero means the default everywhere.
 */
typedef struct ph_engine_options {
    /** sizeof(ph_engine_options). */
    uint32_t struct_size;
    /** Log lines below this level are not made: PH_LOG_..., 0 for PH_LOG_INFO. */
    uint32_t log_level;
    /** Called for every line of the log. NULL: there is no log. */
    ph_log_fn log;
    /** Given to log. */
    void *log_user_data;
    /** Called once with log_user_data when it is used no more. May be NULL. */
    ph_drop_fn log_drop_user_data;
    /** Called for every event. NULL: nobody wants to know. */
    ph_event_fn event;
    /** Given to event. */
    void *event_user_data;
    /** Called once with event_user_data when it is used no more. May be NULL. */
    ph_drop_fn event_drop_user_data;
    /** Threads that serve connections, at most 1024. 0: one for each processor, at most 8. */
    uint32_t threads;
    /** Milliseconds that a policy question which is answered later may take. 0: 60000. */
    uint32_t policy_timeout_ms;
    /** Asked at every step of a session. NULL: nobody is asked. */
    ph_policy_fn policy;
    /** Given to policy. */
    void *policy_user_data;
    /** Called once with policy_user_data when it is used no more. May be NULL. */
    ph_drop_fn policy_drop_user_data;
    /** Verifies bearer tokens. NULL: OAUTHBEARER and XOAUTH2 are not offered. */
    ph_token_fn token;
    /** Given to token. */
    void *token_user_data;
    /** Called once with token_user_data when it is used no more. May be NULL. */
    ph_drop_fn token_drop_user_data;
} ph_engine_options;

/** Begins a ph_engine_options: its size, and zero everywhere else. */
#define PH_ENGINE_OPTIONS_INIT { \
    (uint32_t)sizeof(ph_engine_options), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 \
}

/** Figures of an engine since it was opened. Begin with PH_STATS_INIT. */
typedef struct ph_stats {
    /** sizeof(ph_stats). */
    uint32_t struct_size;
    /** Always 0. */
    uint32_t reserved;
    /** Connections open now. */
    uint64_t connections;
    /** Connections accepted. */
    uint64_t connections_total;
    /** Connections turned away because of a limit. */
    uint64_t connections_refused;
    /** Messages accepted: 250 after the data, or by ph_engine_submit. */
    uint64_t messages_accepted;
    /** Recipients refused. */
    uint64_t recipients_refused;
    /** Logins that succeeded. */
    uint64_t logins;
    /** Logins that failed. */
    uint64_t logins_failed;
    /** Messages read by POP3 clients. */
    uint64_t messages_retrieved;
    /** Syncs of log files. */
    uint64_t log_syncs;
    /** Octets written to log files. */
    uint64_t log_bytes;
    /** Octets written to index files. */
    uint64_t index_bytes;
} ph_stats;

/** Begins a ph_stats: its size, and zero everywhere else. */
#define PH_STATS_INIT { \
    (uint32_t)sizeof(ph_stats), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 \
}

/** A listener that serves. Begin with PH_LISTENER_ROW_INIT. */
typedef struct ph_listener_row {
    /** sizeof(ph_listener_row). */
    uint32_t struct_size;
    /** The port that it really has; 0 for a Unix socket. */
    uint32_t port;
    /** Its name: smtp, smtps, submission, submissions, lmtp, pop3, pop3s. */
    ph_bytes name;
    /** Its address without port, for instance 127.0.0.1 or ::1, or the path of a Unix socket. */
    ph_bytes address;
} ph_listener_row;

/** Begins a ph_listener_row: its size, and zero everywhere else. */
#define PH_LISTENER_ROW_INIT { \
    (uint32_t)sizeof(ph_listener_row), 0, { 0, 0 }, { 0, 0 } \
}

/** A lock-out that holds. Begin with PH_LOCKOUT_ROW_INIT. */
typedef struct ph_lockout_row {
    /** sizeof(ph_lockout_row). */
    uint32_t struct_size;
    /** PH_LOCKOUT_HOST or PH_LOCKOUT_LOGIN. */
    uint32_t what;
    /**
     * The host's address (of IPv6 the first of its network), or the login name as it was tried:
     * any UTF-8.
     */
    ph_bytes whom;
    /** Milliseconds until it ends; 0: not before ph_unlock. */
    uint64_t left_ms;
} ph_lockout_row;

/** Begins a ph_lockout_row: its size, and zero everywhere else. */
#define PH_LOCKOUT_ROW_INIT { \
    (uint32_t)sizeof(ph_lockout_row), 0, { 0, 0 }, 0 \
}

/** What to make an account of. Begin with PH_ACCOUNT_OPTIONS_INIT. */
typedef struct ph_account_options {
    /** sizeof(ph_account_options). */
    uint32_t struct_size;
    /** Must be 0. */
    uint32_t reserved;
    /**
     * Its addresses, at least one; the first is the primary one. Their domains must be domains of
     * the instance.
     */
    const ph_bytes *addresses;
    /** How many. */
    size_t address_count;
    /** The login name; empty: the primary address. */
    ph_bytes login;
    /**
     * The password in clear: at least 8 characters, no white space in front. Kept as an Argon2id
     * hash only.
     */
    ph_bytes password;
} ph_account_options;

/** Begins a ph_account_options: its size, and zero everywhere else. */
#define PH_ACCOUNT_OPTIONS_INIT { \
    (uint32_t)sizeof(ph_account_options), 0, 0, 0, { 0, 0 }, { 0, 0 } \
}

/**
 * Which accounts to list. Begin with PH_ACCOUNT_FILTER_INIT; zero means no restriction everywhere.
 */
typedef struct ph_account_filter {
    /** sizeof(ph_account_filter). */
    uint32_t struct_size;
    /** Must be 0. */
    uint32_t reserved;
    /** Only accounts with an address of this domain. */
    ph_bytes domain;
} ph_account_filter;

/** Begins a ph_account_filter: its size, and zero everywhere else. */
#define PH_ACCOUNT_FILTER_INIT { \
    (uint32_t)sizeof(ph_account_filter), 0, { 0, 0 } \
}

/** An account. Begin with PH_ACCOUNT_ROW_INIT. */
typedef struct ph_account_row {
    /** sizeof(ph_account_row). */
    uint32_t struct_size;
    /** Its number, given once and never again. */
    uint32_t account;
    /** The login name. */
    ph_bytes login;
    /** Its addresses; the first is the primary one. */
    const ph_bytes *addresses;
    /** How many. */
    size_t address_count;
} ph_account_row;

/** Begins a ph_account_row: its size, and zero everywhere else. */
#define PH_ACCOUNT_ROW_INIT { \
    (uint32_t)sizeof(ph_account_row), 0, { 0, 0 }, 0, 0 \
}

/** Which aliases to list. Begin with PH_ALIAS_FILTER_INIT; zero means no restriction everywhere. */
typedef struct ph_alias_filter {
    /** sizeof(ph_alias_filter). */
    uint32_t struct_size;
    /** Must be 0. */
    uint32_t reserved;
    /** Only aliases of this domain. */
    ph_bytes domain;
} ph_alias_filter;

/** Begins a ph_alias_filter: its size, and zero everywhere else. */
#define PH_ALIAS_FILTER_INIT { \
    (uint32_t)sizeof(ph_alias_filter), 0, { 0, 0 } \
}

/** An alias. Begin with PH_ALIAS_ROW_INIT. */
typedef struct ph_alias_row {
    /** sizeof(ph_alias_row). */
    uint32_t struct_size;
    /** Always 0. */
    uint32_t reserved;
    /** The address. */
    ph_bytes address;
    /** Where its mail goes. */
    const ph_bytes *targets;
    /** How many. */
    size_t target_count;
} ph_alias_row;

/** Begins a ph_alias_row: its size, and zero everywhere else. */
#define PH_ALIAS_ROW_INIT { \
    (uint32_t)sizeof(ph_alias_row), 0, { 0, 0 }, 0, 0 \
}

/** Which entries to list. Begin with PH_QUEUE_FILTER_INIT; zero means no restriction everywhere. */
typedef struct ph_queue_filter {
    /** sizeof(ph_queue_filter). */
    uint32_t struct_size;
    /** Must be 0. */
    uint32_t reserved;
    /** Only entries behind this one. */
    uint64_t after;
} ph_queue_filter;

/** Begins a ph_queue_filter: its size, and zero everywhere else. */
#define PH_QUEUE_FILTER_INIT { \
    (uint32_t)sizeof(ph_queue_filter), 0, 0 \
}

/** An entry of the queue. Begin with PH_QUEUE_ROW_INIT. */
typedef struct ph_queue_row {
    /** sizeof(ph_queue_row). */
    uint32_t struct_size;
    /** Always 0. */
    uint32_t reserved;
    /**
     * The message's id, which is the entry's. People read it as 16 hexadecimal digits in lower
     * case.
     */
    uint64_t message_id;
    /** Milliseconds since 1970 when it was accepted. */
    uint64_t received_ms;
    /** Octets. */
    uint64_t size;
    /** The reverse-path without angle brackets, empty for the null path. */
    ph_bytes from;
    /** The forward-paths that have no final outcome yet. */
    const ph_bytes *recipients;
    /** Where each of them stands: PH_RECIPIENT_... */
    const uint32_t *recipient_states;
    /** How many recipients, and how many states. */
    size_t recipient_count;
} ph_queue_row;

/** Begins a ph_queue_row: its size, and zero everywhere else. */
#define PH_QUEUE_ROW_INIT { \
    (uint32_t)sizeof(ph_queue_row), 0, 0, 0, 0, { 0, 0 }, 0, 0, 0 \
}

/** Whose mailboxes to list. Begin with PH_MAILBOX_FILTER_INIT. */
typedef struct ph_mailbox_filter {
    /** sizeof(ph_mailbox_filter). */
    uint32_t struct_size;
    /** Must be 0. */
    uint32_t reserved;
    /** An address of the account. Required. */
    ph_bytes account;
} ph_mailbox_filter;

/** Begins a ph_mailbox_filter: its size, and zero everywhere else. */
#define PH_MAILBOX_FILTER_INIT { \
    (uint32_t)sizeof(ph_mailbox_filter), 0, { 0, 0 } \
}

/** A mailbox. Begin with PH_MAILBOX_ROW_INIT. */
typedef struct ph_mailbox_row {
    /** sizeof(ph_mailbox_row). */
    uint32_t struct_size;
    /** Its number in the account; PH_MAILBOX_INBOX for INBOX. */
    uint32_t mailbox;
    /** Its UIDVALIDITY (RFC 9051 2.3.1.1). */
    uint32_t uid_validity;
    /** The next message's UID is this or higher. */
    uint32_t uid_next;
    /** The highest modification sequence number (RFC 7162). */
    uint64_t highest_modseq;
    /** Messages. */
    uint64_t messages;
    /** Octets of its messages. */
    uint64_t bytes;
    /** Its name in UTF-8. */
    ph_bytes name;
} ph_mailbox_row;

/** Begins a ph_mailbox_row: its size, and zero everywhere else. */
#define PH_MAILBOX_ROW_INIT { \
    (uint32_t)sizeof(ph_mailbox_row), 0, 0, 0, 0, 0, 0, { 0, 0 } \
}

/** Which messages to list. Begin with PH_MESSAGE_FILTER_INIT. */
typedef struct ph_message_filter {
    /** sizeof(ph_message_filter). */
    uint32_t struct_size;
    /** The mailbox's number; 0 for INBOX. */
    uint32_t mailbox;
    /** An address of the account. Required. */
    ph_bytes account;
    /** Only messages with higher UIDs. */
    uint32_t after_uid;
    /** Must be 0. */
    uint32_t reserved;
} ph_message_filter;

/** Begins a ph_message_filter: its size, and zero everywhere else. */
#define PH_MESSAGE_FILTER_INIT { \
    (uint32_t)sizeof(ph_message_filter), 0, { 0, 0 }, 0, 0 \
}

/** A message of a mailbox. Begin with PH_MESSAGE_ROW_INIT. */
typedef struct ph_message_row {
    /** sizeof(ph_message_row). */
    uint32_t struct_size;
    /** Its UID. */
    uint32_t uid;
    /** The message's id, for ph_message_open. */
    uint64_t message_id;
    /** Octets. */
    uint64_t size;
    /** Milliseconds since 1970 when it was accepted. */
    uint64_t received_ms;
    /** Modification sequence number (RFC 7162). */
    uint64_t modseq;
    /** PH_FLAG_... added up. */
    uint32_t flags;
    /** Always 0. */
    uint32_t reserved;
} ph_message_row;

/** Begins a ph_message_row: its size, and zero everywhere else. */
#define PH_MESSAGE_ROW_INIT { \
    (uint32_t)sizeof(ph_message_row), 0, 0, 0, 0, 0, 0, 0 \
}

/**
 * Called while a check or a repair runs: done of total octets are verified.
 *
 * Thread: the one that called ph_engine_check or ph_repair, before that returns. Must not throw or
 * jump out, and must not call the same engine.
 */
typedef void (*ph_progress_fn)(void *user_data, uint64_t done, uint64_t total);

/** How a check runs. Begin with PH_CHECK_OPTIONS_INIT; zero means the default everywhere. */
typedef struct ph_check_options {
    /** sizeof(ph_check_options). */
    uint32_t struct_size;
    /** Must be 0. */
    uint32_t reserved;
    /** Called now and then. NULL: nobody wants to know. */
    ph_progress_fn progress;
    /** Given to progress. Used only while ph_engine_check runs, so it has no drop function. */
    void *progress_user_data;
} ph_check_options;

/** Begins a ph_check_options: its size, and zero everywhere else. */
#define PH_CHECK_OPTIONS_INIT { \
    (uint32_t)sizeof(ph_check_options), 0, 0, 0 \
}

/** The figures of a check. Begin with PH_CHECK_TOTALS_INIT. */
typedef struct ph_check_totals {
    /** sizeof(ph_check_totals). */
    uint32_t struct_size;
    /** Always 0. */
    uint32_t reserved;
    /** Segments read. */
    uint64_t segments;
    /** Records verified. */
    uint64_t records;
    /** Messages in mailboxes or in the queue. */
    uint64_t messages;
    /** Queue entries. */
    uint64_t queue_entries;
    /** Problems found; 0: all is well. */
    uint64_t problems;
} ph_check_totals;

/** Begins a ph_check_totals: its size, and zero everywhere else. */
#define PH_CHECK_TOTALS_INIT { \
    (uint32_t)sizeof(ph_check_totals), 0, 0, 0, 0, 0, 0 \
}

/** A problem that a check found. Begin with PH_CHECK_ROW_INIT. */
typedef struct ph_check_row {
    /** sizeof(ph_check_row). */
    uint32_t struct_size;
    /** Always 0. */
    uint32_t reserved;
    /** One line in UTF-8 that names a file and offset, or a message. */
    ph_bytes problem;
} ph_check_row;

/** Begins a ph_check_row: its size, and zero everywhere else. */
#define PH_CHECK_ROW_INIT { \
    (uint32_t)sizeof(ph_check_row), 0, { 0, 0 } \
}

/** How a compaction runs. Begin with PH_COMPACT_OPTIONS_INIT; zero means the default everywhere. */
typedef struct ph_compact_options {
    /** sizeof(ph_compact_options). */
    uint32_t struct_size;
    /**
     * A segment of whose octets less than this part of a hundred is live is compacted, at most
     * 100. 0: the default.
     */
    uint32_t below_percent;
    /** Octets a second that are copied at most. 0: no limit. */
    uint64_t bytes_per_second;
} ph_compact_options;

/** Begins a ph_compact_options: its size, and zero everywhere else. */
#define PH_COMPACT_OPTIONS_INIT { \
    (uint32_t)sizeof(ph_compact_options), 0, 0 \
}

/** The figures of a compaction. Begin with PH_COMPACT_TOTALS_INIT. */
typedef struct ph_compact_totals {
    /** sizeof(ph_compact_totals). */
    uint32_t struct_size;
    /** Always 0. */
    uint32_t reserved;
    /** Segments looked at. */
    uint64_t segments;
    /** Segments freed. */
    uint64_t freed;
    /** Octets of their files. */
    uint64_t freed_bytes;
    /** Messages moved. */
    uint64_t moved;
    /** Octets copied. */
    uint64_t moved_bytes;
    /** Segments that could not be freed yet, because somebody reads them. */
    uint64_t held;
    /** Findings; 0: all is well. */
    uint64_t findings;
} ph_compact_totals;

/** Begins a ph_compact_totals: its size, and zero everywhere else. */
#define PH_COMPACT_TOTALS_INIT { \
    (uint32_t)sizeof(ph_compact_totals), 0, 0, 0, 0, 0, 0, 0, 0 \
}

/** How a scrub runs. Begin with PH_SCRUB_OPTIONS_INIT; zero means the default everywhere. */
typedef struct ph_scrub_options {
    /** sizeof(ph_scrub_options). */
    uint32_t struct_size;
    /** Must be 0. */
    uint32_t reserved;
    /** Octets a second that are read at most. 0: no limit. */
    uint64_t bytes_per_second;
    /** Called now and then. NULL: nobody wants to know. */
    ph_progress_fn progress;
    /** Given to progress. Used only while ph_engine_scrub runs, so it has no drop function. */
    void *progress_user_data;
} ph_scrub_options;

/** Begins a ph_scrub_options: its size, and zero everywhere else. */
#define PH_SCRUB_OPTIONS_INIT { \
    (uint32_t)sizeof(ph_scrub_options), 0, 0, 0, 0 \
}

/** The figures of a scrub. Begin with PH_SCRUB_TOTALS_INIT. */
typedef struct ph_scrub_totals {
    /** sizeof(ph_scrub_totals). */
    uint32_t struct_size;
    /** Always 0. */
    uint32_t reserved;
    /** Segments verified. */
    uint64_t segments;
    /** Records verified. */
    uint64_t records;
    /** Exports of the index verified. */
    uint64_t exports;
    /** Octets read. */
    uint64_t bytes;
    /** Messages whose references were counted. */
    uint64_t messages;
    /** Messages whose count was wrong and is right now. */
    uint64_t corrected;
    /** Findings; 0: all is well. */
    uint64_t findings;
} ph_scrub_totals;

/** Begins a ph_scrub_totals: its size, and zero everywhere else. */
#define PH_SCRUB_TOTALS_INIT { \
    (uint32_t)sizeof(ph_scrub_totals), 0, 0, 0, 0, 0, 0, 0, 0 \
}

/**
 * The figures of a store. Begin with PH_STORE_TOTALS_INIT. Figures that are not said to be of now
 * are since the engine was opened; times are milliseconds since 1970-01-01T00:00:00Z, 0 for never.
 */
typedef struct ph_store_totals {
    /** sizeof(ph_store_totals). */
    uint32_t struct_size;
    /** PH_SPACE_..., now. */
    uint32_t space;
    /** Lanes, the one for large messages included. */
    uint32_t lanes;
    /** Lanes that cannot be written now. */
    uint32_t read_only_lanes;
    /** Lanes whose index is being repaired now. */
    uint32_t rebuilding_lanes;
    /** 1: a server takes connections now. 0: none does. */
    uint32_t serving;
    /** Octets free on the file system. */
    uint64_t free_bytes;
    /** Octets of the file system. */
    uint64_t total_bytes;
    /** Segments of the log, now. */
    uint64_t segments;
    /** Octets of their files, now. */
    uint64_t log_bytes;
    /** Octets of files that are kept ready for segments, now. */
    uint64_t spare_bytes;
    /** Octets of segments that messages need, now; UINT64_MAX while an index is being repaired. */
    uint64_t live_bytes;
    /** Segments freed. */
    uint64_t segments_freed;
    /** Octets of them. */
    uint64_t freed_bytes;
    /** Damaged places of acknowledged data that were met, each counted once; 0: all is well. */
    uint64_t damage;
    /** Scrubs that came to their end. */
    uint64_t scrubs;
    /** What all scrubs found. */
    uint64_t scrub_findings;
    /** When the last scrub ended. */
    uint64_t scrubbed;
    /** Exports of indexes made. */
    uint64_t exports;
    /** Exports that failed. While they fail, no log is freed. */
    uint64_t export_failures;
    /** When the last export was made. */
    uint64_t exported;
} ph_store_totals;

/** Begins a ph_store_totals: its size, and zero everywhere else. */
#define PH_STORE_TOTALS_INIT { \
    (uint32_t)sizeof(ph_store_totals), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, \
    0 \
}

/** A lane of a store. Begin with PH_STORE_LANE_INIT. */
typedef struct ph_store_lane {
    /** sizeof(ph_store_lane). */
    uint32_t struct_size;
    /** Its number. */
    uint32_t lane;
    /** 1: it holds the octets of large messages only. */
    uint32_t large;
    /** 1: its index is being repaired. */
    uint32_t rebuilding;
    /**
     * Since when it cannot be written, in milliseconds since 1970-01-01T00:00:00Z; 0: it can be.
     */
    uint64_t read_only_since;
    /** Why, in words; empty: it can be written. */
    ph_bytes reason;
} ph_store_lane;

/** Begins a ph_store_lane: its size, and zero everywhere else. */
#define PH_STORE_LANE_INIT { \
    (uint32_t)sizeof(ph_store_lane), 0, 0, 0, 0, { 0, 0 } \
}

/** What a TLS handshake of the host came to. Begin with PH_TLS_FACTS_INIT. */
typedef struct ph_tls_facts {
    /** sizeof(ph_tls_facts). */
    uint32_t struct_size;
    /** The version on the wire: 0x0303 for TLS 1.2, 0x0304 for TLS 1.3. */
    uint32_t version;
    /** The cipher suite's number (IANA), for instance 0x1301; 0: not told. */
    uint32_t cipher;
    /** 1: the session is a resumed one. */
    uint32_t resumed;
    /** The name that the client asked for (SNI), UTF-8; empty: none. */
    ph_bytes server_name;
    /** Whom the client's verified certificate names, UTF-8; empty: none was shown and verified. */
    ph_bytes client_name;
    /**
     * Channel binding data of the type tls-exporter (RFC 9266), 32 octets; empty: not told, and
     * then no SCRAM-...-PLUS is offered.
     */
    ph_bytes exporter;
} ph_tls_facts;

/** Begins a ph_tls_facts: its size, and zero everywhere else. */
#define PH_TLS_FACTS_INIT { \
    (uint32_t)sizeof(ph_tls_facts), 0, 0, 0, { 0, 0 }, { 0, 0 }, { 0, 0 } \
}

/**
 * Called when a connection that answered PH_CONNECTION_WAITING can be stepped again.
 *
 * Thread: one of the engine's. Must return soon, must not throw or jump out, and must not call the
 * engine or anything made from it (PH_E_REENTRANT), nor end the connection: it wakes the host's
 * loop, by a pipe, an eventfd or the like.
 */
typedef void (*ph_ready_fn)(void *user_data);

/** What a connection is made with. Begin with PH_CONNECTION_OPTIONS_INIT. */
typedef struct ph_connection_options {
    /** sizeof(ph_connection_options). */
    uint32_t struct_size;
    /**
     * PH_CONNECTION_TLS_...: who makes TLS. It begins with the first octet for smtps, submissions
     * and pop3s, and when the peer asks for it for the others.
     */
    uint32_t tls;
    /**
     * What is spoken, by a listener's name: smtp, smtps, submission, submissions, pop3, pop3s.
     * Required.
     */
    const char *protocol;
    /** The peer's address with port: 192.0.2.1:4711 or [2001:db8::1]:4711. Required. */
    const char *peer;
    /**
     * With PH_CONNECTION_TLS_HOST and a protocol whose TLS begins with the first octet: what the
     * handshake, which the host has made already, came to. NULL otherwise.
     */
    const ph_tls_facts *facts;
    /** Called when a connection that waited can be stepped again. Required. */
    ph_ready_fn ready;
    /** Given to ready. */
    void *ready_user_data;
    /** Called once with ready_user_data when it is used no more. May be NULL. */
    ph_drop_fn ready_drop_user_data;
} ph_connection_options;

/** Begins a ph_connection_options: its size, and zero everywhere else. */
#define PH_CONNECTION_OPTIONS_INIT { \
    (uint32_t)sizeof(ph_connection_options), 0, 0, 0, 0, 0, 0, 0 \
}

/**
 * How an instance is repaired. Begin with PH_REPAIR_OPTIONS_INIT; zero means the default
 * everywhere.
 */
typedef struct ph_repair_options {
    /** sizeof(ph_repair_options). */
    uint32_t struct_size;
    /**
     * 1: remove lost messages from mailboxes and queue, after copying what is damaged to the
     * directory lost. 0: name them only.
     */
    uint32_t drop_lost;
    /**
     * Called now and then; done and total begin anew with each pass. NULL: nobody wants to know.
     */
    ph_progress_fn progress;
    /** Given to progress. Used only while ph_repair runs, so it has no drop function. */
    void *progress_user_data;
} ph_repair_options;

/** Begins a ph_repair_options: its size, and zero everywhere else. */
#define PH_REPAIR_OPTIONS_INIT { \
    (uint32_t)sizeof(ph_repair_options), 0, 0, 0 \
}

/** The figures of a repair. Begin with PH_REPAIR_TOTALS_INIT. */
typedef struct ph_repair_totals {
    /** sizeof(ph_repair_totals). */
    uint32_t struct_size;
    /** Parts of the index that were made again. */
    uint32_t rebuilt;
    /** Rows of the index that came from exports. */
    uint64_t imported;
    /** Records of the log that were applied. */
    uint64_t replayed;
    /** Messages whose count of references was wrong and is right now. */
    uint64_t recounted;
    /** Messages that are lost. */
    uint64_t lost;
    /** Rows of mailboxes and entries of the queue that were removed. */
    uint64_t dropped;
    /** Problems that are left; 0: all is well. */
    uint64_t problems;
} ph_repair_totals;

/** Begins a ph_repair_totals: its size, and zero everywhere else. */
#define PH_REPAIR_TOTALS_INIT { \
    (uint32_t)sizeof(ph_repair_totals), 0, 0, 0, 0, 0, 0, 0 \
}

/** A line of a repair's report. Begin with PH_REPAIR_ROW_INIT. */
typedef struct ph_repair_row {
    /** sizeof(ph_repair_row). */
    uint32_t struct_size;
    /** PH_REPAIR_... */
    uint32_t kind;
    /** One line in UTF-8. */
    ph_bytes line;
} ph_repair_row;

/** Begins a ph_repair_row: its size, and zero everywhere else. */
#define PH_REPAIR_ROW_INIT { \
    (uint32_t)sizeof(ph_repair_row), 0, { 0, 0 } \
}

/**
 * What a server keeps to verify a password by SCRAM-SHA-256 (RFC 5802 3). Begin with
 * PH_SCRAM_KEYS_INIT.
 *
 * As good as the password to whoever tries out many; with it somebody can pass for the server, not
 * for the client.
 */
typedef struct ph_scram_keys {
    /** sizeof(ph_scram_keys). */
    uint32_t struct_size;
    /** How often the hash is iterated, at least 1. */
    uint32_t iterations;
    /** Octets of the salt, 1 to 64. */
    uint32_t salt_len;
    /** Must be 0. */
    uint32_t reserved;
    /** The salt. */
    uint8_t salt[64];
    /** StoredKey. */
    uint8_t stored_key[32];
    /** ServerKey. */
    uint8_t server_key[32];
} ph_scram_keys;

/** Begins a ph_scram_keys: its size, and zero everywhere else. */
#define PH_SCRAM_KEYS_INIT { \
    (uint32_t)sizeof(ph_scram_keys), 0, 0, 0, { 0 }, { 0 }, { 0 } \
}

/**
 * What a server session is made with. Begin with PH_SMTP_SERVER_OPTIONS_INIT; zero means the
 * default everywhere.
 */
typedef struct ph_smtp_server_options {
    /** sizeof(ph_smtp_server_options). */
    uint32_t struct_size;
    /** PH_SMTP_DIALECT_... */
    uint32_t dialect;
    /** Our name in greeting and EHLO reply. NULL: localhost. */
    const char *hostname;
    /** PH_OFFER_... added up: what is known of the connection when it begins. */
    uint32_t offer;
    /** 1: do not offer CHUNKING (RFC 3030). */
    uint32_t no_chunking;
    /** Most octets of a message, announced in SIZE. 0: 52428800. Over: 552 5.3.4. */
    uint64_t max_message_bytes;
    /** Most recipients of a transaction. 0: 1000. Over: 452 4.5.3. */
    uint32_t max_recipients;
    /** Most failed commands before 421. 0: 20. */
    uint32_t max_errors;
    /** Most transactions of a connection before 421. 0: 10000. */
    uint32_t max_transactions;
    /** Longest command line in octets with CR LF. 0: 4096. Over: 500 5.5.2. At least 512. */
    uint32_t max_command_line;
    /** Pending octets of output above which step answers PH_SMTP_BLOCKED. 0: 16384. */
    uint32_t max_output;
    /** Milliseconds that the peer may take for its next command. 0: 300000. */
    uint32_t command_timeout_ms;
    /** Milliseconds that the peer may take for the next block of data. 0: 180000. */
    uint32_t data_timeout_ms;
    /** Must be 0. */
    uint32_t reserved;
    /** PH_SMTP_EXTENSION_... added up. */
    uint32_t extensions;
    /** PH_SMTP_LOOKUP_... for VRFY. 0: PH_SMTP_LOOKUP_UNTOLD. */
    uint32_t vrfy;
    /** PH_SMTP_LOOKUP_... for EXPN. 0: PH_SMTP_LOOKUP_WITHHELD. */
    uint32_t expn;
    /**
     * Most different domains of a transaction's recipients. 0: they are not counted. Over: 452
     * 4.5.3.
     */
    uint32_t max_recipient_domains;
    /**
     * With PH_SMTP_EXTENSION_DELIVERBY: the least seconds of BY with mode R; 0: none is announced.
     */
    uint32_t deliver_by_least;
    /**
     * FUTURERELEASE (RFC 4865), in PH_SMTP_DIALECT_SUBMISSION: most seconds of HOLDFOR. 0: it is
     * not offered.
     */
    uint32_t hold_seconds;
    /**
     * FUTURERELEASE: latest HOLDUNTIL, in seconds since 1970-01-01T00:00:00Z. 0: it is not
     * offered.
     */
    uint64_t hold_until;
} ph_smtp_server_options;

/** Begins a ph_smtp_server_options: its size, and zero everywhere else. */
#define PH_SMTP_SERVER_OPTIONS_INIT { \
    (uint32_t)sizeof(ph_smtp_server_options), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, \
    0, 0, 0 \
}

/**
 * What a step tells. Begin with PH_SMTP_EVENT_INIT. Fields that a kind does not name are 0 or
 * empty.
 *
 * Everything that it points to is borrowed: data of PH_SMTP_DATA_CHUNK from the input of the step,
 * all else from the session, until the next call on the session other than output, output_sent and
 * deadline.
 */
typedef struct ph_smtp_event {
    /** sizeof(ph_smtp_event), set by the caller. */
    uint32_t struct_size;
    /** PH_SMTP_NEED_INPUT, PH_SMTP_MAIL ... */
    uint32_t kind;
    /** PH_SMTP_FLAG_... added up. */
    uint32_t flags;
    /** Always 0. */
    uint32_t reserved;
    /** Octets. */
    uint64_t size;
    /** A path without angle brackets. */
    ph_bytes address;
    /** A name, a piece of the message, or the challenge of CRAM-MD5. */
    ph_bytes data;
    /** The login name, UTF-8. */
    ph_bytes login;
    /** The password, the digest of CRAM-MD5 or the token, UTF-8. */
    ph_bytes password;
    /** On whose behalf to act, UTF-8; empty: the login name's own. */
    ph_bytes authorization;
    /**
     * The parameters that the next hop must hear of, as ASCII text with a space between: RET,
     * ENVID, BY, MT-PRIORITY, REQUIRETLS of MAIL (RFC 3461, 2852, 6710, 8689), NOTIFY, ORCPT of
     * RCPT (RFC 3461, 6533). They are checked and have one form.
     */
    ph_bytes parameters;
    /** MAIL carried HOLDFOR (RFC 4865): seconds from now before which the message may not leave. */
    uint64_t hold_seconds;
    /** MAIL carried HOLDUNTIL (RFC 4865): that instant, in seconds since 1970-01-01T00:00:00Z. */
    uint64_t hold_until;
    /** LMTP, PH_SMTP_DATA_END: how many recipients wait for a reply. */
    uint32_t recipients;
    /** Always 0. */
    uint32_t reserved2;
} ph_smtp_event;

/** Begins a ph_smtp_event: its size, and zero everywhere else. */
#define PH_SMTP_EVENT_INIT { \
    (uint32_t)sizeof(ph_smtp_event), 0, 0, 0, 0, { 0, 0 }, { 0, 0 }, { 0, 0 }, { 0, 0 }, \
    { 0, 0 }, { 0, 0 }, 0, 0, 0, 0 \
}

/**
 * What a client session is made with. Begin with PH_SMTP_CLIENT_OPTIONS_INIT; zero means the
 * default everywhere.
 */
typedef struct ph_smtp_client_options {
    /** sizeof(ph_smtp_client_options). */
    uint32_t struct_size;
    /** PH_SMTP_CLIENT_LMTP ... PH_SMTP_CLIENT_REFUSE_LINE_ENDS added up. */
    uint32_t flags;
    /** Our name in EHLO. NULL: localhost. */
    const char *hostname;
    /** The login name, UTF-8. Empty together with secret: do not log in. */
    ph_bytes login;
    /** The password or token, UTF-8. */
    ph_bytes secret;
    /** On whose behalf to act, UTF-8; empty: the login name's own. */
    ph_bytes authorization;
    /**
     * AUTH mechanisms that may be used, divided by spaces: "SCRAM-SHA-256 PLAIN". NULL: all that
     * this library knows.
     */
    const char *mechanisms;
    /** 18 random octets that were never used before, for SCRAM. NULL: SCRAM is not used. */
    const uint8_t *nonce;
    /**
     * Most recipients of a transaction that are asked for; the others are PH_VERDICT_NOT_TRIED. 0:
     * 1000.
     */
    uint32_t max_recipients;
    /** Octets of a chunk of BDAT. 0: 65536. */
    uint32_t chunk_bytes;
    /** Pending octets of output above which step answers PH_SMTP_CLIENT_BLOCKED. 0: 65536. */
    uint32_t max_output;
    /** Milliseconds for the greeting. 0: 300000. */
    uint32_t greeting_timeout_ms;
    /** Milliseconds for EHLO, STARTTLS and each line of AUTH. 0: 300000. */
    uint32_t hello_timeout_ms;
    /** Milliseconds for MAIL and RSET. 0: 300000. */
    uint32_t mail_timeout_ms;
    /** Milliseconds for RCPT. 0: 300000. */
    uint32_t rcpt_timeout_ms;
    /** Milliseconds for DATA. 0: 120000. */
    uint32_t data_timeout_ms;
    /** Milliseconds for taking what was written, each time. 0: 180000. */
    uint32_t block_timeout_ms;
    /** Milliseconds for the answer to the message's end and to each chunk. 0: 600000. */
    uint32_t end_timeout_ms;
    /** Milliseconds for QUIT. 0: 30000. */
    uint32_t quit_timeout_ms;
    /** Must be 0. */
    uint32_t reserved;
} ph_smtp_client_options;

/** Begins a ph_smtp_client_options: its size, and zero everywhere else. */
#define PH_SMTP_CLIENT_OPTIONS_INIT { \
    (uint32_t)sizeof(ph_smtp_client_options), 0, 0, { 0, 0 }, { 0, 0 }, { 0, 0 }, 0, 0, 0, 0, 0, \
    0, 0, 0, 0, 0, 0, 0, 0, 0 \
}

/**
 * What a step of a client session tells. Begin with PH_SMTP_CLIENT_EVENT_INIT. Fields that a kind
 * does not name are 0 or empty.
 *
 * text is borrowed from the session until the next call on it other than output, output_sent and
 * deadline.
 */
typedef struct ph_smtp_client_event {
    /** sizeof(ph_smtp_client_event), set by the caller. */
    uint32_t struct_size;
    /** PH_SMTP_CLIENT_NEED_INPUT, PH_SMTP_CLIENT_RECIPIENT ... */
    uint32_t kind;
    /** PH_SMTP_CLIENT_FLAG_... added up. */
    uint32_t flags;
    /** PH_VERDICT_... */
    uint32_t verdict;
    /** PH_ORIGIN_... */
    uint32_t origin;
    /** PH_PHASE_... */
    uint32_t phase;
    /** The reply's code, 200 to 599. */
    uint32_t code;
    /** The enhanced status code's class (RFC 3463), 0 when the reply has none. */
    uint32_t enhanced_class;
    /** Its subject. */
    uint32_t enhanced_subject;
    /** Its detail. */
    uint32_t enhanced_detail;
    /** The recipient's place in the transaction. */
    uint64_t index;
    /** Octets or recipients. */
    uint64_t size;
    /** The reply's text, UTF-8, its enhanced status code included; lines are divided by LF. */
    ph_bytes text;
} ph_smtp_client_event;

/** Begins a ph_smtp_client_event: its size, and zero everywhere else. */
#define PH_SMTP_CLIENT_EVENT_INIT { \
    (uint32_t)sizeof(ph_smtp_client_event), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, { 0, 0 } \
}

/** A recipient of a transaction. This struct stands in arrays and never grows. */
typedef struct ph_smtp_recipient {
    /** The forward-path without angle brackets. */
    ph_bytes address;
    /** RCPT's parameters to be passed on, as they stand on the wire: NOTIFY, ORCPT. Empty: none. */
    ph_bytes parameters;
} ph_smtp_recipient;

/** One message to some recipients. Begin with PH_SMTP_TRANSACTION_INIT. */
typedef struct ph_smtp_transaction {
    /** sizeof(ph_smtp_transaction). */
    uint32_t struct_size;
    /** PH_CONTENT_...: what the message's octets are. */
    uint32_t content;
    /** The message's octets, announced with SIZE; 0 when they are not known. */
    uint64_t size;
    /** The reverse-path without angle brackets; empty for the null path. */
    ph_bytes from;
    /**
     * MAIL's parameters to be passed on, divided by spaces: RET, ENVID, BY, MT-PRIORITY,
     * REQUIRETLS, AUTH, HOLDFOR, HOLDUNTIL. Empty: none.
     */
    ph_bytes parameters;
    /** recipient_count recipients. Outcomes name them by their places here. */
    const ph_smtp_recipient *recipients;
    /** How many there are, at least 1. */
    size_t recipient_count;
    /** 1: it needs SMTPUTF8 (RFC 6531). Addresses of more than ASCII need it anyway. */
    uint32_t utf8;
    /** Must be 0. */
    uint32_t reserved;
} ph_smtp_transaction;

/** Begins a ph_smtp_transaction: its size, and zero everywhere else. */
#define PH_SMTP_TRANSACTION_INIT { \
    (uint32_t)sizeof(ph_smtp_transaction), 0, 0, { 0, 0 }, { 0, 0 }, 0, 0, 0, 0 \
}

/**
 * What a server session is made with. Begin with PH_POP3_SERVER_OPTIONS_INIT; zero means the
 * default everywhere.
 */
typedef struct ph_pop3_server_options {
    /** sizeof(ph_pop3_server_options). */
    uint32_t struct_size;
    /** PH_OFFER_... added up: what is known of the connection when it begins. */
    uint32_t offer;
    /** Our name in the greeting. NULL: localhost. */
    const char *hostname;
    /** Longest command line in octets with CR LF. 0: 512. At least 255. */
    uint32_t max_command_line;
    /** Most failed commands before the connection is closed. 0: 20. */
    uint32_t max_errors;
    /** Pending octets of output above which step answers PH_POP3_BLOCKED. 0: 65536. */
    uint32_t max_output;
    /** Milliseconds without a command before the session ends without deleting. 0: 600000. */
    uint32_t idle_timeout_ms;
    /** The same before the login. 0: 60000. */
    uint32_t login_timeout_ms;
    /** Must be 0. */
    uint32_t reserved;
} ph_pop3_server_options;

/** Begins a ph_pop3_server_options: its size, and zero everywhere else. */
#define PH_POP3_SERVER_OPTIONS_INIT { \
    (uint32_t)sizeof(ph_pop3_server_options), 0, 0, 0, 0, 0, 0, 0, 0 \
}

/**
 * What a step tells. Begin with PH_POP3_EVENT_INIT. Fields that a kind does not name are 0 or
 * empty.
 *
 * Everything that it points to is borrowed from the session until the next call on the session
 * other than output, output_sent and deadline.
 */
typedef struct ph_pop3_event {
    /** sizeof(ph_pop3_event), set by the caller. */
    uint32_t struct_size;
    /** PH_POP3_NEED_INPUT, PH_POP3_AUTH ... */
    uint32_t kind;
    /** PH_POP3_FLAG_... added up. */
    uint32_t flags;
    /** A message's number, from 0. */
    uint32_t index;
    /** Where to begin in the message. */
    uint64_t offset;
    /** At most so many octets at once. */
    uint64_t max;
    /** The login name, UTF-8. */
    ph_bytes login;
    /** The password, the digest of CRAM-MD5 or the token, UTF-8. */
    ph_bytes password;
    /** On whose behalf to act, UTF-8; empty: the login name's own. */
    ph_bytes authorization;
    /** Numbers of messages to remove, from 0, sorted. */
    const uint32_t *deleted;
    /** How many. */
    size_t deleted_count;
    /** The challenge of CRAM-MD5. */
    ph_bytes challenge;
} ph_pop3_event;

/** Begins a ph_pop3_event: its size, and zero everywhere else. */
#define PH_POP3_EVENT_INIT { \
    (uint32_t)sizeof(ph_pop3_event), 0, 0, 0, 0, 0, { 0, 0 }, { 0, 0 }, { 0, 0 }, 0, 0, \
    { 0, 0 } \
}

/**
 * A maildrop as it stands when a session enters the TRANSACTION state. Begin with
 * PH_POP3_MAILDROP_INIT.
 */
typedef struct ph_pop3_maildrop {
    /** sizeof(ph_pop3_maildrop). */
    uint32_t struct_size;
    /** UIDVALIDITY of the mailbox; part of every UIDL. */
    uint32_t uid_validity;
    /**
     * The messages' octets as RETR sends them, without dot-stuffing and without the final line
     * with the dot (RFC 1939 11).
     */
    const uint64_t *octets;
    /** The messages' UIDs. */
    const uint32_t *uids;
    /** How many messages: entries of each array. */
    size_t count;
} ph_pop3_maildrop;

/** Begins a ph_pop3_maildrop: its size, and zero everywhere else. */
#define PH_POP3_MAILDROP_INIT { \
    (uint32_t)sizeof(ph_pop3_maildrop), 0, 0, 0, 0 \
}

/*
 * == Results ==
 */

/**
 * Says in English what a status means.
 *
 * Behaviour: answers a short static text without an object's name, for instance "the address is in
 * use". For a number that this library does not know the text says so.
 * Parameters: status, any number.
 * Returns: a NUL-terminated static text, never NULL.
 * Ownership: the text belongs to the library and lives as long as it is loaded.
 * Thread: any thread.
 * Since: 0.1.
 */
const char *ph_status_str(ph_status status);

/*
 * == Octets ==
 */

/**
 * Makes a ph_bytes of a C string.
 *
 * Behaviour: the octets of text up to its NUL, which is not counted. Copies nothing.
 * Parameters: text, a NUL-terminated string, or NULL for no octets.
 * Returns: a view of the string.
 * Ownership: the string stays the caller's, and must live as long as the view is used.
 * Thread: any thread.
 * Since: 0.1.
 */
ph_bytes ph_bytes_of(const char *text);

/*
 * == Versions ==
 */

/**
 * Says which version is loaded, as a text.
 *
 * Behaviour: for instance "0.1.0". May differ from PH_VERSION, which is the version that the host
 * was compiled against.
 * Returns: a NUL-terminated static text, never NULL.
 * Ownership: the text belongs to the library and lives as long as it is loaded.
 * Thread: any thread.
 * Since: 0.1.
 */
const char *ph_version_str(void);

/**
 * Says which version is loaded, as a number that can be compared.
 *
 * Behaviour: major * 1000000 + minor * 1000 + patch, so 0.1.0 is 1000.
 * Returns: the number.
 * Thread: any thread.
 * Since: 0.1.
 */
uint32_t ph_version(void);

/**
 * Says which level of the ABI is loaded.
 *
 * Behaviour: a host that was compiled with PH_ABI_LEVEL n runs with every library that answers n
 * or more.
 * Returns: the level.
 * Thread: any thread.
 * Since: 0.1.
 */
uint32_t ph_abi_level(void);

/*
 * == Instances ==
 */

/**
 * Makes an instance on disk.
 *
 * Behaviour: everything is checked first, then everything is made. Interrupted at any point it
 * leaves either no instance or a whole one. Opens nothing: see ph_engine_open.
 * Parameters: directory, NUL-terminated UTF-8, must not exist (missing parents are made) or be
 * empty; options; err, or NULL.
 * Returns: PH_OK or an error.
 * Errors: PH_E_EXISTS when an instance is there or the directory holds something else;
 * PH_E_INVALID_ARGUMENT, PH_E_ADDRESS_INVALID, PH_E_PASSWORD, PH_E_CERTIFICATE, PH_E_PRIVATE_KEY,
 * with the field's name in the message; PH_E_PATH_NOT_FOUND, PH_E_PERMISSION, PH_E_DISK_FULL,
 * PH_E_IO; PH_E_STRUCT_SIZE, PH_E_NULL, PH_E_UTF8.
 * Ownership: everything is copied before the call returns.
 * Thread: any thread.
 * Since: 0.1.
 */
ph_status ph_instance_setup(const char *directory,
                            const ph_setup_options *options,
                            ph_error *err);

/**
 * Sets a value in an instance's configuration, posthouse.toml.
 *
 * Behaviour: every other octet of the file stays as it is, comments included; what changed is on
 * disk when the call returns. It holds from the next ph_engine_open; certificates and a few more
 * from the next ph_engine_reload.
 * Parameters: directory, the instance, NUL-terminated UTF-8; key, dotted, for instance
 * smtp.recipients; value, TOML (500, true, ["10.0.0.0/8"]), where a text may stand without quotes;
 * err, or NULL.
 * Returns: PH_OK or an error, after which the file is as it was.
 * Errors: PH_E_INVALID_ARGUMENT for a key that there is not; PH_E_CONFIG for a value that it
 * cannot have; PH_E_NOT_AN_INSTANCE; PH_E_PERMISSION, PH_E_DISK_FULL, PH_E_IO; PH_E_NULL,
 * PH_E_UTF8.
 * Thread: any thread.
 * Since: 0.1.
 */
ph_status ph_instance_set(const char *directory,
                          const char *key,
                          const char *value,
                          ph_error *err);

/*
 * == Callbacks: policy ==
 */

/**
 * Takes a question along, to be answered after the call.
 *
 * Behaviour: the session waits, and nothing is read from the peer, until ph_verdict_complete, or
 * until the engine's policy_timeout_ms have passed: then the peer is told 451 4.7.1 and the
 * session goes on.
 * Parameters: later, as given to the ph_policy_fn that runs.
 * Returns: the handle, or NULL when later is NULL or was used already.
 * Ownership: the handle is the caller's, to be ended by ph_verdict_complete or ph_verdict_free. It
 * may outlive the session, the connection and the engine.
 * Thread: callback only.
 * Since: 0.1.
 */
ph_verdict *ph_policy_take(ph_policy_later *later);

/**
 * Answers a question that was taken along.
 *
 * Behaviour: the session goes on. Without effect when it has ended or its time has run out.
 * Parameters: verdict; answer, how the refusal reads, or NULL to accept; err, or NULL.
 * Returns: PH_OK or an error, after which the verdict is still to be completed.
 * Errors: PH_E_INVALID_ARGUMENT for a code that is no refusal; PH_E_STRUCT_SIZE, PH_E_UTF8,
 * PH_E_NULL.
 * Ownership: ends the verdict when it answers PH_OK.
 * Thread: any thread, also within a callback of the engine.
 * Since: 0.1.
 */
ph_status ph_verdict_complete(ph_verdict *verdict,
                              const ph_policy_answer *answer,
                              ph_error *err);

/**
 * Gives a verdict up: the peer is told 451 4.7.1.
 *
 * Parameters: verdict, or NULL, which does nothing.
 * Ownership: ends the verdict.
 * Thread: any thread.
 * Since: 0.1.
 */
void ph_verdict_free(ph_verdict *verdict);

/*
 * == The engine ==
 */

/**
 * Opens an instance.
 *
 * Behaviour: takes the instance's lock, recovers what a crash left, reads configuration and
 * directory. Serves nothing yet: see ph_engine_start. Several engines may be open in one process,
 * each with its own instance. On Windows the library stays loaded from the first engine on:
 * FreeLibrary does not unload it.
 * Parameters: directory, the instance's directory, NUL-terminated UTF-8; options, or NULL for the
 * defaults; out, where the handle goes (NULL when the call fails); err, or NULL.
 * Returns: PH_OK or an error.
 * Errors: PH_E_NOT_AN_INSTANCE when the directory holds none or does not exist; PH_E_PERMISSION;
 * PH_E_LOCKED when another process or engine has it open; PH_E_CORRUPT, PH_E_FORMAT_NEWER;
 * PH_E_CONFIG, PH_E_CERTIFICATE, PH_E_PRIVATE_KEY; PH_E_STRUCT_SIZE, PH_E_INVALID_ARGUMENT,
 * PH_E_NULL, PH_E_UTF8. When the call fails nothing of it remains.
 * Ownership: the handle is the caller's, to be ended by ph_engine_close. The user_data of the
 * callbacks passes to the library with this call: its drop function is called exactly once, also
 * when the call fails. Only when the answer is PH_E_STRUCT_SIZE, options was not read and
 * user_data stays the caller's.
 * Thread: any thread.
 * Since: 0.1.
 */
ph_status ph_engine_open(const char *directory,
                         const ph_engine_options *options,
                         ph_engine **out,
                         ph_error *err);

/**
 * Binds all listeners and serves.
 *
 * Behaviour: when one listener cannot be bound none is kept. Without effect when the engine serves
 * already. May be called again after ph_engine_stop.
 * Parameters: engine; err, or NULL.
 * Returns: PH_OK or an error.
 * Errors: PH_E_ADDRESS_IN_USE, PH_E_ADDRESS_INVALID, PH_E_PERMISSION (the message names the
 * listener); PH_E_CERTIFICATE, PH_E_PRIVATE_KEY; PH_E_STOPPED, PH_E_REENTRANT, PH_E_NULL.
 * Thread: any thread.
 * Since: 0.1.
 */
ph_status ph_engine_start(ph_engine *engine,
                          ph_error *err);

/**
 * Stops serving.
 *
 * Behaviour: accepts no new connection, tells idle ones 421, lets running transactions end within
 * the configured time, and returns when every connection is gone. Administration still works.
 * Without effect when the engine does not serve.
 * Parameters: engine; err, or NULL.
 * Returns: PH_OK or an error.
 * Errors: PH_E_STOPPED, PH_E_REENTRANT, PH_E_NULL.
 * Thread: any thread.
 * Since: 0.1.
 */
ph_status ph_engine_stop(ph_engine *engine,
                         ph_error *err);

/**
 * Reads the configuration and the certificates anew, without dropping a connection.
 *
 * Behaviour: the table policy of posthouse.toml (networks, limits of connections, rates, pauses,
 * lock-out) holds from now on, and TLS connections that begin from now on get the certificates as
 * their files are now. All of it takes effect, or, when anything is wrong, nothing. Listeners, the
 * bounds of sessions and whether there is TLS at all hold until the next ph_engine_start after a
 * new opening. Waits for files.
 * Parameters: engine; err, or NULL.
 * Returns: PH_OK or an error.
 * Errors: PH_E_CONFIG, PH_E_CERTIFICATE, PH_E_PRIVATE_KEY (the message says what is wrong with
 * what); PH_E_STOPPED, PH_E_REENTRANT, PH_E_NULL; those of the operating system.
 * Thread: any thread.
 * Since: 0.1.
 */
ph_status ph_engine_reload(ph_engine *engine,
                           ph_error *err);

/**
 * Stops, closes the instance, releases its lock, and destroys the handle.
 *
 * Behaviour: when it returns, no callback of this engine runs or will run, and their drop
 * functions have been called; it waits for callbacks that run, so the caller must not hold what
 * they wait for. Cursors and messages made from the engine stay valid: they answer PH_E_STOPPED or
 * what they hold already, and are freed as ever. Works on an engine that had an internal error.
 * Parameters: engine, or NULL, which does nothing; err, or NULL.
 * Returns: PH_OK or an error. Whatever it answers but PH_E_REENTRANT, the handle is gone.
 * Errors: PH_E_REENTRANT from inside a callback of this engine: nothing was done. PH_E_IO,
 * PH_E_DISK_FULL when the last write failed; what was acknowledged is safe, opening recovers it.
 * Ownership: ends the handle.
 * Thread: any thread, when no other call on this engine runs and none will come.
 * Since: 0.1.
 */
ph_status ph_engine_close(ph_engine *engine,
                          ph_error *err);

/**
 * Reads the engine's figures.
 *
 * Parameters: engine; out, a ph_stats with struct_size set; err, or NULL.
 * Returns: PH_OK or an error.
 * Errors: PH_E_STRUCT_SIZE, PH_E_REENTRANT, PH_E_NULL.
 * Thread: any thread.
 * Since: 0.1.
 */
ph_status ph_engine_stats(ph_engine *engine, ph_stats *out, ph_error *err);

/**
 * Takes a message from the host.
 *
 * Behaviour: the same rules as for an authenticated submission: local recipients get it in their
 * INBOX, others are queued, trace fields are added in front. Blocks until the message is on disk:
 * after PH_OK it survives a power cut. When one recipient is refused nothing is taken.
 * Parameters: engine; from, the reverse-path without angle brackets, empty for the null path;
 * recipients, an array of recipient_count forward-paths without angle brackets, at least one;
 * message, header and body with CR LF line ends; message_id, where the message's id goes, or NULL;
 * err, or NULL.
 * Returns: PH_OK or an error.
 * Errors: PH_E_ADDRESS, PH_E_NOT_FOUND for an address or recipient that cannot be (the message
 * names it, smtp_code fits a reply); PH_E_INVALID_ARGUMENT for no recipient, a NUL, or a CR or LF
 * that is not part of a CR LF (with its offset); PH_E_LIMIT for a message over the limit;
 * PH_E_DISK_FULL, PH_E_READ_ONLY, PH_E_IO, PH_E_STOPPED, PH_E_REENTRANT, PH_E_UTF8, PH_E_NULL.
 * Ownership: everything is copied before the call returns.
 * Thread: any thread.
 * Since: 0.1.
 */
ph_status ph_engine_submit(ph_engine *engine,
                           ph_bytes from,
                           const ph_bytes *recipients,
                           size_t recipient_count,
                           ph_bytes message,
                           uint64_t *message_id,
                           ph_error *err);

/*
 * == The engine: listeners ==
 */

/**
 * Lists the listeners that serve now.
 *
 * Behaviour: the list is as it is at this moment; empty when the engine does not serve.
 * Parameters: engine; out, where the cursor goes (NULL when the call fails); err, or NULL.
 * Returns: PH_OK or an error.
 * Errors: PH_E_REENTRANT, PH_E_NULL.
 * Ownership: the cursor is the caller's, to be ended by ph_listener_free, before or after
 * ph_engine_close.
 * Thread: any thread.
 * Since: 0.1.
 */
ph_status ph_listener_list(ph_engine *engine,
                           ph_listener_cursor **out,
                           ph_error *err);

/**
 * Goes to the next row.
 *
 * Behaviour: in the order of the configuration.
 * Parameters: cursor; row, with struct_size set; err, or NULL.
 * Returns: 0 (PH_OK): row is filled; 1 (PH_END): there is no next one, row is unchanged; or an
 * error.
 * Errors: PH_E_STRUCT_SIZE, PH_E_REENTRANT, PH_E_BUSY, PH_E_NULL.
 * Ownership: what row points to is borrowed until the next call on the cursor.
 * Thread: one at a time.
 * Since: 0.1.
 */
ph_status ph_listener_next(ph_listener_cursor *cursor,
                           ph_listener_row *row,
                           ph_error *err);

/**
 * Destroys a cursor.
 *
 * Parameters: cursor, or NULL, which does nothing.
 * Ownership: ends the cursor and what its last row pointed to.
 * Thread: any thread, when no other call on the cursor runs.
 * Since: 0.1.
 */
void ph_listener_free(ph_listener_cursor *cursor);

/*
 * == The engine: lock-outs ==
 */

/**
 * Lists who is locked out after failed logins.
 *
 * Behaviour: the list is as it is at this moment, at most 10,000 rows. Lock-outs end when the
 * engine is closed.
 * Parameters: engine; out, where the cursor goes (NULL when the call fails); err, or NULL.
 * Returns: PH_OK or an error.
 * Errors: PH_E_STOPPED, PH_E_REENTRANT, PH_E_NULL.
 * Ownership: the cursor is the caller's, to be ended by ph_lockout_free, before or after
 * ph_engine_close.
 * Thread: any thread.
 * Since: 0.1.
 */
ph_status ph_lockout_list(ph_engine *engine,
                          ph_lockout_cursor **out,
                          ph_error *err);

/**
 * Goes to the next row.
 *
 * Behaviour: hosts first, then login names, each sorted.
 * Parameters: cursor; row, with struct_size set; err, or NULL.
 * Returns: 0 (PH_OK): row is filled; 1 (PH_END): there is no next one, row is unchanged; or an
 * error.
 * Errors: PH_E_STRUCT_SIZE, PH_E_REENTRANT, PH_E_BUSY, PH_E_NULL.
 * Ownership: what row points to is borrowed until the next call on the cursor.
 * Thread: one at a time.
 * Since: 0.1.
 */
ph_status ph_lockout_next(ph_lockout_cursor *cursor,
                          ph_lockout_row *row,
                          ph_error *err);

/**
 * Destroys a cursor.
 *
 * Parameters: cursor, or NULL, which does nothing.
 * Ownership: ends the cursor and what its last row pointed to.
 * Thread: any thread, when no other call on the cursor runs.
 * Since: 0.1.
 */
void ph_lockout_free(ph_lockout_cursor *cursor);

/**
 * Ends the lock-out of a host or of a login name.
 *
 * Behaviour: failures that were counted against it so far are forgotten too, so it may be called
 * before a lock-out begins.
 * Parameters: engine; whom, any address of the host, or the login name; err, or NULL.
 * Returns: PH_OK or an error.
 * Errors: PH_E_NOT_FOUND: no failed logins are held against it; PH_E_UTF8, PH_E_STOPPED,
 * PH_E_REENTRANT, PH_E_NULL.
 * Thread: any thread.
 * Since: 0.1.
 */
ph_status ph_unlock(ph_engine *engine,
                    ph_bytes whom,
                    ph_error *err);

/*
 * == The engine: accounts ==
 */

/**
 * Makes an account with its INBOX.
 *
 * Behaviour: durable when it returns. Takes a noticeable time on purpose: the password is hashed.
 * Parameters: engine; options; err, or NULL.
 * Returns: PH_OK or an error.
 * Errors: PH_E_EXISTS when an address or the login name is taken; PH_E_ADDRESS; PH_E_NOT_FOUND or
 * PH_E_INVALID_ARGUMENT when a domain is not one of the instance; PH_E_PASSWORD; PH_E_STOPPED,
 * PH_E_REENTRANT, PH_E_IO, PH_E_DISK_FULL, PH_E_READ_ONLY, PH_E_STRUCT_SIZE, PH_E_UTF8, PH_E_NULL.
 * Ownership: everything is copied before the call returns.
 * Thread: any thread.
 * Since: 0.1.
 */
ph_status ph_account_add(ph_engine *engine,
                         const ph_account_options *options,
                         ph_error *err);

/**
 * Removes an account and its mail.
 *
 * Behaviour: durable when it returns. The account of postmaster stays.
 * Parameters: engine; address, any address of the account; err, or NULL.
 * Returns: PH_OK or an error.
 * Errors: PH_E_NOT_FOUND; PH_E_REFUSED for postmaster; PH_E_STOPPED, PH_E_REENTRANT, PH_E_IO,
 * PH_E_DISK_FULL, PH_E_READ_ONLY, PH_E_UTF8, PH_E_NULL.
 * Thread: any thread.
 * Since: 0.1.
 */
ph_status ph_account_remove(ph_engine *engine,
                            ph_bytes address,
                            ph_error *err);

/**
 * Sets an account's password.
 *
 * Behaviour: durable when it returns. Takes a noticeable time on purpose: the password is hashed.
 * Sessions that are logged in stay so.
 * Parameters: engine; address, any address of the account; password, in clear, at least 8
 * characters, no white space in front; err, or NULL.
 * Returns: PH_OK or an error.
 * Errors: PH_E_NOT_FOUND, PH_E_PASSWORD; PH_E_STOPPED, PH_E_REENTRANT, PH_E_IO, PH_E_DISK_FULL,
 * PH_E_READ_ONLY, PH_E_UTF8, PH_E_NULL.
 * Ownership: everything is copied before the call returns.
 * Thread: any thread.
 * Since: 0.1.
 */
ph_status ph_account_set_password(ph_engine *engine,
                                  ph_bytes address,
                                  ph_bytes password,
                                  ph_error *err);

/**
 * Lists accounts.
 *
 * Behaviour: the list is as it is at this moment, sorted by primary address.
 * Parameters: engine; filter, or NULL for all; out, where the cursor goes (NULL when the call
 * fails); err, or NULL.
 * Returns: PH_OK or an error.
 * Errors: PH_E_STOPPED, PH_E_REENTRANT, PH_E_STRUCT_SIZE, PH_E_UTF8, PH_E_NULL.
 * Ownership: the cursor is the caller's, to be ended by ph_account_free, before or after
 * ph_engine_close.
 * Thread: any thread.
 * Since: 0.1.
 */
ph_status ph_account_list(ph_engine *engine,
                          const ph_account_filter *filter,
                          ph_account_cursor **out,
                          ph_error *err);

/**
 * Goes to the next row.
 *
 * Behaviour: sorted by primary address.
 * Parameters: cursor; row, with struct_size set; err, or NULL.
 * Returns: 0 (PH_OK): row is filled; 1 (PH_END): there is no next one, row is unchanged; or an
 * error.
 * Errors: PH_E_STOPPED, PH_E_STRUCT_SIZE, PH_E_REENTRANT, PH_E_BUSY, PH_E_NULL.
 * Ownership: what row points to is borrowed until the next call on the cursor.
 * Thread: one at a time.
 * Since: 0.1.
 */
ph_status ph_account_next(ph_account_cursor *cursor,
                          ph_account_row *row,
                          ph_error *err);

/**
 * Destroys a cursor.
 *
 * Parameters: cursor, or NULL, which does nothing.
 * Ownership: ends the cursor and what its last row pointed to.
 * Thread: any thread, when no other call on the cursor runs.
 * Since: 0.1.
 */
void ph_account_free(ph_account_cursor *cursor);

/*
 * == The engine: aliases ==
 */

/**
 * Adds an alias: mail for address goes to targets.
 *
 * Behaviour: durable when it returns.
 * Parameters: engine; address, whose domain must be one of the instance; targets, an array of
 * target_count addresses here or elsewhere, at least one; err, or NULL.
 * Returns: PH_OK or an error.
 * Errors: PH_E_EXISTS when an account or alias has the address; PH_E_ADDRESS; PH_E_REFUSED or
 * PH_E_INVALID_ARGUMENT for a loop or a foreign domain; PH_E_STOPPED, PH_E_REENTRANT, PH_E_IO,
 * PH_E_DISK_FULL, PH_E_READ_ONLY, PH_E_UTF8, PH_E_NULL.
 * Ownership: everything is copied before the call returns.
 * Thread: any thread.
 * Since: 0.1.
 */
ph_status ph_alias_add(ph_engine *engine,
                       ph_bytes address,
                       const ph_bytes *targets,
                       size_t target_count,
                       ph_error *err);

/**
 * Removes an alias.
 *
 * Behaviour: durable when it returns.
 * Parameters: engine; address, the alias's; err, or NULL.
 * Returns: PH_OK or an error.
 * Errors: PH_E_NOT_FOUND; PH_E_STOPPED, PH_E_REENTRANT, PH_E_IO, PH_E_DISK_FULL, PH_E_READ_ONLY,
 * PH_E_UTF8, PH_E_NULL.
 * Thread: any thread.
 * Since: 0.1.
 */
ph_status ph_alias_remove(ph_engine *engine,
                          ph_bytes address,
                          ph_error *err);

/**
 * Lists aliases.
 *
 * Behaviour: the list is as it is at this moment, sorted by address.
 * Parameters: engine; filter, or NULL for all; out, where the cursor goes (NULL when the call
 * fails); err, or NULL.
 * Returns: PH_OK or an error.
 * Errors: PH_E_STOPPED, PH_E_REENTRANT, PH_E_STRUCT_SIZE, PH_E_UTF8, PH_E_NULL.
 * Ownership: the cursor is the caller's, to be ended by ph_alias_free, before or after
 * ph_engine_close.
 * Thread: any thread.
 * Since: 0.1.
 */
ph_status ph_alias_list(ph_engine *engine,
                        const ph_alias_filter *filter,
                        ph_alias_cursor **out,
                        ph_error *err);

/**
 * Goes to the next row.
 *
 * Behaviour: sorted by address.
 * Parameters: cursor; row, with struct_size set; err, or NULL.
 * Returns: 0 (PH_OK): row is filled; 1 (PH_END): there is no next one, row is unchanged; or an
 * error.
 * Errors: PH_E_STOPPED, PH_E_STRUCT_SIZE, PH_E_REENTRANT, PH_E_BUSY, PH_E_NULL.
 * Ownership: what row points to is borrowed until the next call on the cursor.
 * Thread: one at a time.
 * Since: 0.1.
 */
ph_status ph_alias_next(ph_alias_cursor *cursor,
                        ph_alias_row *row,
                        ph_error *err);

/**
 * Destroys a cursor.
 *
 * Parameters: cursor, or NULL, which does nothing.
 * Ownership: ends the cursor and what its last row pointed to.
 * Thread: any thread, when no other call on the cursor runs.
 * Since: 0.1.
 */
void ph_alias_free(ph_alias_cursor *cursor);

/*
 * == The engine: the queue ==
 */

/**
 * Lists the queue.
 *
 * Behaviour: goes through the queue in the order of message ids, while mail flows: an entry that
 * is there all the time is seen once, one that comes or goes meanwhile may be seen or not.
 * Parameters: engine; filter, or NULL for all; out, where the cursor goes (NULL when the call
 * fails); err, or NULL.
 * Returns: PH_OK or an error.
 * Errors: PH_E_STOPPED, PH_E_REENTRANT, PH_E_IO, PH_E_CORRUPT, PH_E_STRUCT_SIZE, PH_E_NULL.
 * Ownership: the cursor is the caller's, to be ended by ph_queue_free, before or after
 * ph_engine_close.
 * Thread: any thread.
 * Since: 0.1.
 */
ph_status ph_queue_list(ph_engine *engine,
                        const ph_queue_filter *filter,
                        ph_queue_cursor **out,
                        ph_error *err);

/**
 * Goes to the next row.
 *
 * Behaviour: in the order of message ids.
 * Parameters: cursor; row, with struct_size set; err, or NULL.
 * Returns: 0 (PH_OK): row is filled; 1 (PH_END): there is no next one, row is unchanged; or an
 * error.
 * Errors: PH_E_STOPPED, PH_E_IO, PH_E_CORRUPT, PH_E_STRUCT_SIZE, PH_E_REENTRANT, PH_E_BUSY,
 * PH_E_NULL.
 * Ownership: what row points to is borrowed until the next call on the cursor.
 * Thread: one at a time.
 * Since: 0.1.
 */
ph_status ph_queue_next(ph_queue_cursor *cursor,
                        ph_queue_row *row,
                        ph_error *err);

/**
 * Destroys a cursor.
 *
 * Parameters: cursor, or NULL, which does nothing.
 * Ownership: ends the cursor and what its last row pointed to.
 * Thread: any thread, when no other call on the cursor runs.
 * Since: 0.1.
 */
void ph_queue_free(ph_queue_cursor *cursor);

/**
 * Takes an entry out of the queue for ever.
 *
 * Behaviour: durable when it returns. Nobody is told: the remaining recipients do not get the
 * message. Mailboxes that have it keep it.
 * Parameters: engine; message_id, the entry's; err, or NULL.
 * Returns: PH_OK or an error.
 * Errors: PH_E_NOT_FOUND; PH_E_STOPPED, PH_E_REENTRANT, PH_E_IO, PH_E_DISK_FULL, PH_E_READ_ONLY,
 * PH_E_NULL.
 * Thread: any thread.
 * Since: 0.1.
 */
ph_status ph_queue_remove(ph_engine *engine,
                          uint64_t message_id,
                          ph_error *err);

/**
 * Tries now what waits in the queue for another attempt, as ETRN does (RFC 1985).
 *
 * Behaviour: the next attempt of every recipient meant is now, durably, and hosts that could not
 * be reached are tried again; does not wait for the attempts. What an operator holds, what has
 * failed for ever, what waits on its sender's wish (RFC 4865) and what no route leads to is left
 * alone. With an engine that does not serve it shows when it does.
 * Parameters: engine; domain, empty for all, behind @ with its subdomains; messages, how many are
 * meant, or NULL; err, or NULL.
 * Returns: PH_OK or an error.
 * Errors: PH_E_INVALID_ARGUMENT: no domain; PH_E_NOT_FOUND: no route leads there; PH_E_BUSY:
 * another run is under way; PH_E_UTF8, PH_E_STOPPED, PH_E_REENTRANT, PH_E_IO, PH_E_DISK_FULL,
 * PH_E_READ_ONLY, PH_E_NULL.
 * Thread: any thread. Blocks: reads the whole queue.
 * Since: 0.1.
 */
ph_status ph_queue_run(ph_engine *engine,
                       ph_bytes domain,
                       uint64_t *messages,
                       ph_error *err);

/*
 * == The engine: mailboxes ==
 */

/**
 * Lists the mailboxes of an account.
 *
 * Behaviour: the list is as it is at this moment.
 * Parameters: engine; filter, which names the account; out, where the cursor goes (NULL when the
 * call fails); err, or NULL.
 * Returns: PH_OK or an error.
 * Errors: PH_E_NOT_FOUND; PH_E_STOPPED, PH_E_REENTRANT, PH_E_IO, PH_E_STRUCT_SIZE, PH_E_UTF8,
 * PH_E_NULL.
 * Ownership: the cursor is the caller's, to be ended by ph_mailbox_free, before or after
 * ph_engine_close.
 * Thread: any thread.
 * Since: 0.1.
 */
ph_status ph_mailbox_list(ph_engine *engine,
                          const ph_mailbox_filter *filter,
                          ph_mailbox_cursor **out,
                          ph_error *err);

/**
 * Goes to the next row.
 *
 * Behaviour: in the order of their numbers.
 * Parameters: cursor; row, with struct_size set; err, or NULL.
 * Returns: 0 (PH_OK): row is filled; 1 (PH_END): there is no next one, row is unchanged; or an
 * error.
 * Errors: PH_E_STOPPED, PH_E_STRUCT_SIZE, PH_E_REENTRANT, PH_E_BUSY, PH_E_NULL.
 * Ownership: what row points to is borrowed until the next call on the cursor.
 * Thread: one at a time.
 * Since: 0.1.
 */
ph_status ph_mailbox_next(ph_mailbox_cursor *cursor,
                          ph_mailbox_row *row,
                          ph_error *err);

/**
 * Destroys a cursor.
 *
 * Parameters: cursor, or NULL, which does nothing.
 * Ownership: ends the cursor and what its last row pointed to.
 * Thread: any thread, when no other call on the cursor runs.
 * Since: 0.1.
 */
void ph_mailbox_free(ph_mailbox_cursor *cursor);

/*
 * == The engine: messages ==
 */

/**
 * Lists the messages of a mailbox.
 *
 * Behaviour: goes through the mailbox in the order of UIDs, while mail flows: a message that is
 * there all the time is seen once, one that comes or goes meanwhile may be seen or not.
 * Parameters: engine; filter, which names account and mailbox; out, where the cursor goes (NULL
 * when the call fails); err, or NULL.
 * Returns: PH_OK or an error.
 * Errors: PH_E_NOT_FOUND; PH_E_STOPPED, PH_E_REENTRANT, PH_E_IO, PH_E_CORRUPT, PH_E_STRUCT_SIZE,
 * PH_E_UTF8, PH_E_NULL.
 * Ownership: the cursor is the caller's, to be ended by ph_message_free, before or after
 * ph_engine_close.
 * Thread: any thread.
 * Since: 0.1.
 */
ph_status ph_message_list(ph_engine *engine,
                          const ph_message_filter *filter,
                          ph_message_cursor **out,
                          ph_error *err);

/**
 * Goes to the next row.
 *
 * Behaviour: in the order of UIDs.
 * Parameters: cursor; row, with struct_size set; err, or NULL.
 * Returns: 0 (PH_OK): row is filled; 1 (PH_END): there is no next one, row is unchanged; or an
 * error.
 * Errors: PH_E_STOPPED, PH_E_NOT_FOUND, PH_E_IO, PH_E_CORRUPT, PH_E_STRUCT_SIZE, PH_E_REENTRANT,
 * PH_E_BUSY, PH_E_NULL.
 * Ownership: what row points to is borrowed until the next call on the cursor.
 * Thread: one at a time.
 * Since: 0.1.
 */
ph_status ph_message_next(ph_message_cursor *cursor,
                          ph_message_row *row,
                          ph_error *err);

/**
 * Destroys a cursor.
 *
 * Parameters: cursor, or NULL, which does nothing.
 * Ownership: ends the cursor and what its last row pointed to.
 * Thread: any thread, when no other call on the cursor runs.
 * Since: 0.1.
 */
void ph_message_free(ph_message_cursor *cursor);

/**
 * Opens a message's octets for reading.
 *
 * Behaviour: the octets stay readable until ph_message_close, also when the message is removed
 * meanwhile.
 * Parameters: engine; message_id, from a row or from ph_engine_submit; out, where the handle goes
 * (NULL when the call fails); err, or NULL.
 * Returns: PH_OK or an error.
 * Errors: PH_E_NOT_FOUND; PH_E_CORRUPT; PH_E_STOPPED, PH_E_REENTRANT, PH_E_IO, PH_E_NULL.
 * Ownership: the handle is the caller's, to be ended by ph_message_close, before or after
 * ph_engine_close.
 * Thread: any thread.
 * Since: 0.1.
 */
ph_status ph_message_open(ph_engine *engine,
                          uint64_t message_id,
                          ph_message **out,
                          ph_error *err);

/**
 * Says how long a message is.
 *
 * Behaviour: the length as a mailbox has it, the Return-Path line in front included.
 * Parameters: message, or NULL.
 * Returns: octets; 0 for NULL.
 * Thread: any thread.
 * Since: 0.1.
 */
uint64_t ph_message_len(const ph_message *message);

/**
 * Reads a piece of a message.
 *
 * Behaviour: reads from offset as much as fits into the buffer; checksums are verified before
 * octets are given out.
 * Parameters: message; offset, where to begin; buffer, at least size octets; size; read, where the
 * number of octets goes, 0 at the end of the message; err, or NULL.
 * Returns: PH_OK or an error.
 * Errors: PH_E_CORRUPT; PH_E_STOPPED, PH_E_REENTRANT, PH_E_BUSY, PH_E_IO, PH_E_NULL.
 * Thread: one at a time.
 * Since: 0.1.
 */
ph_status ph_message_read(ph_message *message,
                          uint64_t offset,
                          uint8_t *buffer,
                          size_t size,
                          size_t *read,
                          ph_error *err);

/**
 * Ends the reading of a message.
 *
 * Parameters: message, or NULL, which does nothing.
 * Ownership: ends the handle.
 * Thread: any thread, when no other call on the message runs.
 * Since: 0.1.
 */
void ph_message_close(ph_message *message);

/*
 * == The engine: verification ==
 */

/**
 * Verifies an instance while mail flows.
 *
 * Behaviour: reads every record and every reference and changes nothing. Takes as long as reading
 * the instance takes.
 * Parameters: engine; options, or NULL for the defaults; out, where the report goes (NULL when the
 * call fails); err, or NULL.
 * Returns: PH_OK when the check could be made, whatever it found: see ph_check_stats; or an error.
 * Errors: PH_E_STOPPED, PH_E_REENTRANT, PH_E_IO, PH_E_STRUCT_SIZE, PH_E_NULL.
 * Ownership: the report is the caller's, to be ended by ph_check_free, before or after
 * ph_engine_close.
 * Thread: any thread.
 * Since: 0.1.
 */
ph_status ph_engine_check(ph_engine *engine,
                          const ph_check_options *options,
                          ph_check **out,
                          ph_error *err);

/**
 * Reads the figures of a check.
 *
 * Parameters: check; out, with struct_size set; err, or NULL.
 * Returns: PH_OK or an error.
 * Errors: PH_E_STRUCT_SIZE, PH_E_BUSY, PH_E_NULL.
 * Thread: one at a time.
 * Since: 0.1.
 */
ph_status ph_check_stats(ph_check *check, ph_check_totals *out, ph_error *err);

/**
 * Goes to the next problem.
 *
 * Parameters: check; row, with struct_size set; err, or NULL.
 * Returns: 0 (PH_OK): row is filled; 1 (PH_END): there is no next one, row is unchanged; or an
 * error.
 * Errors: PH_E_STRUCT_SIZE, PH_E_BUSY, PH_E_NULL.
 * Ownership: what row points to is borrowed until ph_check_free.
 * Thread: one at a time.
 * Since: 0.1.
 */
ph_status ph_check_next(ph_check *check,
                        ph_check_row *row,
                        ph_error *err);

/**
 * Gives the whole report as one JSON document.
 *
 * Behaviour: an object with the numbers segments, records, messages, queue_entries and the array
 * of texts problems. Later versions may add members.
 * Parameters: check; out, where the view goes; err, or NULL.
 * Returns: PH_OK or an error.
 * Errors: PH_E_BUSY, PH_E_NULL.
 * Ownership: what out points to is borrowed until ph_check_free.
 * Thread: one at a time.
 * Since: 0.1.
 */
ph_status ph_check_json(ph_check *check,
                        ph_bytes *out,
                        ph_error *err);

/**
 * Destroys a check's report.
 *
 * Parameters: check, or NULL, which does nothing.
 * Ownership: ends the report and everything borrowed from it.
 * Thread: any thread, when no other call on the report runs.
 * Since: 0.1.
 */
void ph_check_free(ph_check *check);

/*
 * == The engine: giving space back ==
 */

/**
 * Gives back the space of messages that nothing refers to any more, while mail flows.
 *
 * Behaviour: one full pass now; an engine does the same by itself at a limited rate. Copies what
 * is live in files that are mostly dead, and removes them or uses them again.
 * Parameters: engine; options, or NULL for the defaults; out, where the report goes (NULL when the
 * call fails); err, or NULL.
 * Returns: PH_OK, whatever was found: see ph_compact_stats; or an error.
 * Errors: PH_E_STOPPED, PH_E_REENTRANT, PH_E_IO, PH_E_DISK_FULL, PH_E_CORRUPT,
 * PH_E_INVALID_ARGUMENT, PH_E_STRUCT_SIZE, PH_E_NULL.
 * Ownership: the report is the caller's, to be ended by ph_compact_free, before or after
 * ph_engine_close.
 * Thread: any thread.
 * Since: 0.1.
 */
ph_status ph_engine_compact(ph_engine *engine,
                            const ph_compact_options *options,
                            ph_compact **out,
                            ph_error *err);

/**
 * Reads the figures of a compaction.
 *
 * Parameters: compact; out, with struct_size set; err, or NULL.
 * Returns: PH_OK or an error.
 * Errors: PH_E_STRUCT_SIZE, PH_E_BUSY, PH_E_NULL.
 * Thread: one at a time.
 * Since: 0.1.
 */
ph_status ph_compact_stats(ph_compact *compact,
                           ph_compact_totals *out,
                           ph_error *err);

/**
 * Goes to the next finding.
 *
 * Parameters: compact; row, with struct_size set, whose problem is the finding; err, or NULL.
 * Returns: 0 (PH_OK): row is filled; 1 (PH_END): there is no next one, row is unchanged; or an
 * error.
 * Errors: PH_E_STRUCT_SIZE, PH_E_BUSY, PH_E_NULL.
 * Ownership: what row points to is borrowed until ph_compact_free.
 * Thread: one at a time.
 * Since: 0.1.
 */
ph_status ph_compact_next(ph_compact *compact,
                          ph_check_row *row,
                          ph_error *err);

/**
 * Gives the whole report as one JSON document.
 *
 * Behaviour: an object with the numbers segments, freed, freed_bytes, moved, moved_bytes, held and
 * the array of texts findings. Later versions may add members.
 * Parameters: compact; out, where the view goes; err, or NULL.
 * Returns: PH_OK or an error.
 * Errors: PH_E_BUSY, PH_E_NULL.
 * Ownership: what out points to is borrowed until ph_compact_free.
 * Thread: one at a time.
 * Since: 0.1.
 */
ph_status ph_compact_json(ph_compact *compact, ph_bytes *out, ph_error *err);

/**
 * Destroys the report of a compaction.
 *
 * Parameters: compact, or NULL, which does nothing.
 * Ownership: ends the report and everything borrowed from it.
 * Thread: any thread, when no other call on the report runs.
 * Since: 0.1.
 */
void ph_compact_free(ph_compact *compact);

/*
 * == The engine: finding damage early ==
 */

/**
 * Verifies what was written long ago, and counts references again, while mail flows.
 *
 * Behaviour: reads all segments that are left for good and all exports of the index; changes
 * nothing but counts of references that are wrong. An engine does the same by itself, slowly and
 * now and then.
 * Parameters: engine; options, or NULL for the defaults; out, where the report goes (NULL when the
 * call fails); err, or NULL.
 * Returns: PH_OK, whatever was found: see ph_scrub_stats; or an error.
 * Errors: PH_E_STOPPED, PH_E_REENTRANT, PH_E_IO, PH_E_DISK_FULL, PH_E_CORRUPT,
 * PH_E_INVALID_ARGUMENT, PH_E_STRUCT_SIZE, PH_E_NULL.
 * Ownership: the report is the caller's, to be ended by ph_scrub_free, before or after
 * ph_engine_close.
 * Thread: any thread.
 * Since: 0.1.
 */
ph_status ph_engine_scrub(ph_engine *engine,
                          const ph_scrub_options *options,
                          ph_scrub **out,
                          ph_error *err);

/**
 * Reads the figures of a scrub.
 *
 * Parameters: scrub; out, with struct_size set; err, or NULL.
 * Returns: PH_OK or an error.
 * Errors: PH_E_STRUCT_SIZE, PH_E_BUSY, PH_E_NULL.
 * Thread: one at a time.
 * Since: 0.1.
 */
ph_status ph_scrub_stats(ph_scrub *scrub, ph_scrub_totals *out, ph_error *err);

/**
 * Goes to the next finding.
 *
 * Parameters: scrub; row, with struct_size set, whose problem is the finding; err, or NULL.
 * Returns: 0 (PH_OK): row is filled; 1 (PH_END): there is no next one, row is unchanged; or an
 * error.
 * Errors: PH_E_STRUCT_SIZE, PH_E_BUSY, PH_E_NULL.
 * Ownership: what row points to is borrowed until ph_scrub_free.
 * Thread: one at a time.
 * Since: 0.1.
 */
ph_status ph_scrub_next(ph_scrub *scrub,
                        ph_check_row *row,
                        ph_error *err);

/**
 * Gives the whole report as one JSON document.
 *
 * Behaviour: an object with the numbers segments, records, exports, bytes, messages, corrected and
 * the array of texts findings. Later versions may add members.
 * Parameters: scrub; out, where the view goes; err, or NULL.
 * Returns: PH_OK or an error.
 * Errors: PH_E_BUSY, PH_E_NULL.
 * Ownership: what out points to is borrowed until ph_scrub_free.
 * Thread: one at a time.
 * Since: 0.1.
 */
ph_status ph_scrub_json(ph_scrub *scrub, ph_bytes *out, ph_error *err);

/**
 * Destroys the report of a scrub.
 *
 * Parameters: scrub, or NULL, which does nothing.
 * Ownership: ends the report and everything borrowed from it.
 * Thread: any thread, when no other call on the report runs.
 * Since: 0.1.
 */
void ph_scrub_free(ph_scrub *scrub);

/*
 * == The engine: how its store is ==
 */

/**
 * Looks how the store of an engine is.
 *
 * Behaviour: lists a directory and reads a few rows of each index; waits for no write and for no
 * repair. What is seen is of this moment; PH_EVENT_STORE_READ_ONLY, PH_EVENT_SPACE_LOW,
 * PH_EVENT_DAMAGE and their like tell changes.
 * Parameters: engine, started or not; out, where the state goes (NULL when the call fails); err,
 * or NULL.
 * Returns: PH_OK, however the store is; or an error.
 * Errors: PH_E_STOPPED, PH_E_REENTRANT, PH_E_IO, PH_E_NULL.
 * Ownership: the state is the caller's, to be ended by ph_store_state_free, before or after
 * ph_engine_close.
 * Thread: any thread.
 * Since: 0.1.
 */
ph_status ph_engine_store_state(ph_engine *engine,
                                ph_store_state **out,
                                ph_error *err);

/**
 * Reads the figures of a store.
 *
 * Parameters: state; out, with struct_size set; err, or NULL.
 * Returns: PH_OK or an error.
 * Errors: PH_E_STRUCT_SIZE, PH_E_BUSY, PH_E_NULL.
 * Thread: one at a time.
 * Since: 0.1.
 */
ph_status ph_store_state_totals(ph_store_state *state,
                                ph_store_totals *out,
                                ph_error *err);

/**
 * Goes to the next lane.
 *
 * Parameters: state; lane, with struct_size set; err, or NULL.
 * Returns: 0 (PH_OK): lane is filled; 1 (PH_END): there is no next one, lane is unchanged; or an
 * error.
 * Errors: PH_E_STRUCT_SIZE, PH_E_BUSY, PH_E_NULL.
 * Ownership: what lane points to is borrowed until ph_store_state_free.
 * Thread: one at a time.
 * Since: 0.1.
 */
ph_status ph_store_state_next(ph_store_state *state,
                              ph_store_lane *lane,
                              ph_error *err);

/**
 * Gives the whole state as one JSON document.
 *
 * Behaviour: an object with the text summary, a sentence or a few for a person; the figures of
 * ph_store_totals under their names (space as ample, low or full, serving as true or false,
 * live_bytes null while an index is being repaired); lanes, an array of objects with the members
 * of ph_store_lane; damage, an array of texts, and the number more_damage beyond those. Later
 * versions may add members.
 * Parameters: state; out, where the view goes; err, or NULL.
 * Returns: PH_OK or an error.
 * Errors: PH_E_BUSY, PH_E_NULL.
 * Ownership: what out points to is borrowed until ph_store_state_free.
 * Thread: one at a time.
 * Since: 0.1.
 */
ph_status ph_store_state_json(ph_store_state *state,
                              ph_bytes *out,
                              ph_error *err);

/**
 * Destroys the state of a store.
 *
 * Parameters: state, or NULL, which does nothing.
 * Ownership: ends the state and everything borrowed from it.
 * Thread: any thread, when no other call on the state runs.
 * Since: 0.1.
 */
void ph_store_state_free(ph_store_state *state);

/*
 * == The engine: connections on the host's sockets ==
 */

/**
 * Begins a connection on a socket that the host has accepted.
 *
 * Behaviour: nothing is sent yet: step first, without input, for the greeting. The engine need not
 * be started. How many of these there are is the host's affair: the limits of listeners do not
 * count them.
 * Parameters: engine; options; out, where the handle goes (NULL when the call fails); err, or
 * NULL.
 * Returns: PH_OK or an error.
 * Errors: PH_E_INVALID_ARGUMENT for a protocol or tls that there is not, or facts where none
 * belong or none are; PH_E_ADDRESS_INVALID for peer; PH_E_CERTIFICATE, PH_E_PRIVATE_KEY with
 * PH_CONNECTION_TLS_ENGINE; PH_E_STOPPED, PH_E_REENTRANT, PH_E_STRUCT_SIZE, PH_E_UTF8, PH_E_NULL.
 * Ownership: the handle is the caller's, to be ended by ph_connection_free, before or after
 * ph_engine_close. ready_user_data passes to the library with this call: its drop function is
 * called exactly once, also when the call fails. Only when the answer is PH_E_STRUCT_SIZE or
 * PH_E_NULL for options, options was not read and ready_user_data stays the caller's.
 * Thread: any thread.
 * Since: 0.1.
 */
ph_status ph_connection_new(ph_engine *engine,
                            const ph_connection_options *options,
                            ph_connection **out,
                            ph_error *err);

/**
 * Feeds what was read from the socket.
 *
 * Behaviour: consumes a prefix of the input and appends to the pending output. What is not
 * consumed comes again at the front of the next input. The result is the same however the input is
 * cut.
 * Parameters: connection; in, in_len octets (NULL when in_len is 0); consumed, where the number of
 * octets done with goes; state, where PH_CONNECTION_... goes; err, or NULL.
 * Returns: PH_OK or an error.
 * Errors: PH_E_STATE while PH_CONNECTION_STARTTLS waits for its answer; PH_E_STOPPED when the
 * engine was closed; PH_E_REENTRANT, PH_E_BUSY, PH_E_INTERNAL, PH_E_NULL.
 * Thread: one at a time.
 * Since: 0.1.
 */
ph_status ph_connection_step(ph_connection *connection,
                             const uint8_t *in,
                             size_t in_len,
                             size_t *consumed,
                             uint32_t *state,
                             ph_error *err);

/**
 * Says that the host has made the TLS handshake that PH_CONNECTION_STARTTLS asked for.
 *
 * Behaviour: everything known before is forgotten (RFC 3207 4.2). Octets that the peer had sent in
 * clear behind its command end the connection: an attacker may have put them in. Step afterwards,
 * with what came through TLS only.
 * Parameters: connection; facts; unread, unread_len octets that were received before the handshake
 * and not consumed, may be NULL when unread_len is 0; err, or NULL.
 * Returns: PH_OK or an error.
 * Errors: PH_E_STATE when nothing asked for it; PH_E_INVALID_ARGUMENT, PH_E_UTF8,
 * PH_E_STRUCT_SIZE, PH_E_BUSY, PH_E_INTERNAL, PH_E_NULL.
 * Thread: one at a time.
 * Since: 0.1.
 */
ph_status ph_connection_tls_started(ph_connection *connection,
                                    const ph_tls_facts *facts,
                                    const uint8_t *unread,
                                    size_t unread_len,
                                    ph_error *err);

/**
 * Says that the peer will send nothing more. Step afterwards.
 *
 * Parameters: connection.
 * Returns: PH_OK or an error.
 * Errors: PH_E_BUSY, PH_E_INTERNAL, PH_E_NULL.
 * Thread: one at a time.
 * Since: 0.1.
 */
ph_status ph_connection_eof(ph_connection *connection);

/**
 * Says that the connection is to end where its protocol allows it: SMTP says 421. A message whose
 * end has come still gets its answer. Step afterwards.
 *
 * Parameters: connection.
 * Returns: PH_OK or an error.
 * Errors: PH_E_BUSY, PH_E_INTERNAL, PH_E_NULL.
 * Thread: one at a time.
 * Since: 0.1.
 */
ph_status ph_connection_shutdown(ph_connection *connection);

/**
 * Says in how many milliseconds to step even without input.
 *
 * Parameters: connection, or NULL.
 * Returns: milliseconds from now, or PH_NEVER.
 * Thread: one at a time.
 * Since: 0.1.
 */
uint64_t ph_connection_timeout(const ph_connection *connection);

/**
 * Shows the octets that wait to be written to the peer.
 *
 * Parameters: connection, or NULL; pending, where the view goes; it is empty when nothing waits.
 * Ownership: what pending points to is borrowed until the next call on the connection other than
 * ph_connection_timeout.
 * Thread: one at a time.
 * Since: 0.1.
 */
void ph_connection_output(const ph_connection *connection,
                          ph_bytes *pending);

/**
 * Says how many of the pending octets have been written.
 *
 * Parameters: connection, or NULL; written, at most as many as were pending.
 * Thread: one at a time.
 * Since: 0.1.
 */
void ph_connection_output_sent(ph_connection *connection, size_t written);

/**
 * Destroys a connection. A message whose end has come and whose answer has not is accepted or not,
 * as if the peer had gone.
 *
 * Parameters: connection, or NULL, which does nothing.
 * Ownership: ends the handle and everything borrowed from it; ready is not called any more when
 * this returns.
 * Thread: any thread, when no other call on the connection runs; not from ready.
 * Since: 0.1.
 */
void ph_connection_free(ph_connection *connection);

/*
 * == Repair of an instance ==
 */

/**
 * Repairs an instance that nobody has open.
 *
 * Behaviour: makes the index again from its export and the log, counts references again, verifies
 * everything, and names what is lost. Files of the log are never rewritten, and without drop_lost
 * no message is removed. Takes as long as reading the instance a few times takes. Calling it again
 * is allowed, also after it was interrupted.
 * Parameters: directory, NUL-terminated UTF-8; options, or NULL for the defaults; out, where the
 * report goes (NULL when the call fails); err, or NULL.
 * Returns: PH_OK when the repair was made, whatever is left: see ph_repair_stats; or an error.
 * Errors: PH_E_NOT_AN_INSTANCE, PH_E_FORMAT_NEWER, PH_E_LOCKED when it is open, PH_E_CORRUPT,
 * PH_E_DISK_FULL, PH_E_IO, PH_E_INVALID_ARGUMENT, PH_E_STRUCT_SIZE, PH_E_NULL, PH_E_UTF8.
 * Ownership: the report is the caller's, to be ended by ph_repair_free.
 * Thread: any thread.
 * Since: 0.1.
 */
ph_status ph_repair(const char *directory,
                    const ph_repair_options *options,
                    ph_repair_report **out,
                    ph_error *err);

/**
 * Reads the figures of a repair.
 *
 * Parameters: report; out, with struct_size set; err, or NULL.
 * Returns: PH_OK or an error.
 * Errors: PH_E_STRUCT_SIZE, PH_E_BUSY, PH_E_NULL.
 * Thread: one at a time.
 * Since: 0.1.
 */
ph_status ph_repair_stats(ph_repair_report *report,
                          ph_repair_totals *out,
                          ph_error *err);

/**
 * Goes to the next line of a repair's report.
 *
 * Parameters: report; row, with struct_size set; err, or NULL.
 * Returns: 0 (PH_OK): row is filled; 1 (PH_END): there is no next one, row is unchanged; or an
 * error.
 * Errors: PH_E_STRUCT_SIZE, PH_E_BUSY, PH_E_NULL.
 * Ownership: what row points to is borrowed until ph_repair_free.
 * Thread: one at a time.
 * Since: 0.1.
 */
ph_status ph_repair_next(ph_repair_report *report,
                         ph_repair_row *row,
                         ph_error *err);

/**
 * Gives the whole report as one JSON document.
 *
 * Behaviour: an object with the numbers rebuilt, imported, replayed, recounted, dropped, the
 * arrays of texts notes, damage, copies, problems, the array damaged of objects (file, from, to),
 * and the array lost of objects (message, mailboxes, queued, sender, why). Later versions may add
 * members.
 * Parameters: report; out, where the view goes; err, or NULL.
 * Returns: PH_OK or an error.
 * Errors: PH_E_BUSY, PH_E_NULL.
 * Ownership: what out points to is borrowed until ph_repair_free.
 * Thread: one at a time.
 * Since: 0.1.
 */
ph_status ph_repair_json(ph_repair_report *report,
                         ph_bytes *out,
                         ph_error *err);

/**
 * Destroys a repair's report.
 *
 * Parameters: report, or NULL, which does nothing.
 * Ownership: ends the report and everything borrowed from it.
 * Thread: any thread, when no other call on the report runs.
 * Since: 0.1.
 */
void ph_repair_free(ph_repair_report *report);

/*
 * == Logins ==
 */

/**
 * Derives the keys of a password, to be kept in place of it.
 *
 * Behaviour: the password is prepared by SASLprep (RFC 4013); one that SASLprep refuses is taken
 * as it is. Slow on purpose: about a third of a microsecond for each iteration.
 * Parameters: password, UTF-8; salt, 1 to 64 octets, random for each password, or those of
 * ph_scram_decoy for the name; iterations, 0 means 65536, most clients accept no fewer than 4096;
 * keys, where they go, with struct_size set.
 * Returns: PH_OK or an error.
 * Errors: PH_E_INVALID_ARGUMENT for a salt of another length; PH_E_STRUCT_SIZE, PH_E_UTF8,
 * PH_E_NULL.
 * Ownership: everything is copied before the call returns.
 * Thread: any thread.
 * Since: 0.1.
 */
ph_status ph_scram_derive(ph_bytes password,
                          ph_bytes salt,
                          uint32_t iterations,
                          ph_scram_keys *keys);

/**
 * Makes keys that fit no password, for a login name that nobody has.
 *
 * Behaviour: with these as the answer a client cannot tell such a name from one with another
 * password. Always the same for the same secret, name and iterations. SCRAM shows salt and
 * iterations to whoever gives a name: derive the keys of somebody who has it with the salt and the
 * iterations that the name has here, and they tell nothing either.
 * Parameters: secret, 32 random octets that the host keeps as long as the keys of its users;
 * login, UTF-8, the name folded as the host folds names that it looks up; iterations, as in the
 * keys of its users, 0 means 65536; keys, where they go, with struct_size set.
 * Returns: PH_OK or an error.
 * Errors: PH_E_INVALID_ARGUMENT for a secret of another length; PH_E_STRUCT_SIZE, PH_E_UTF8,
 * PH_E_NULL.
 * Ownership: everything is copied before the call returns.
 * Thread: any thread.
 * Since: 0.1.
 */
ph_status ph_scram_decoy(ph_bytes secret,
                         ph_bytes login,
                         uint32_t iterations,
                         ph_scram_keys *keys);

/**
 * Verifies the digest of CRAM-MD5 with the password in clear.
 *
 * Parameters: password; challenge and digest, as the event PH_SMTP_AUTH_CRAM_MD5 or
 * PH_POP3_AUTH_CRAM_MD5 brought them; all UTF-8; right, where 1 goes when the digest is the
 * password's, and 0 when not.
 * Returns: PH_OK or an error.
 * Errors: PH_E_UTF8, PH_E_NULL.
 * Thread: any thread.
 * Since: 0.1.
 */
ph_status ph_cram_md5_verify(ph_bytes password,
                             ph_bytes challenge,
                             ph_bytes digest,
                             uint32_t *right);

/*
 * == Sessions: ph_smtp_server ==
 */

/**
 * Makes a session for a new connection.
 *
 * Behaviour: nothing is pending yet; the first step answers PH_SMTP_CONNECT.
 * Parameters: options, or NULL for the defaults; now_ms, milliseconds on a clock of the host's
 * choice that never goes back; out, where the handle goes (NULL when the call fails); err, or
 * NULL.
 * Returns: PH_OK or an error.
 * Errors: PH_E_STRUCT_SIZE, PH_E_INVALID_ARGUMENT, PH_E_UTF8, PH_E_NULL.
 * Ownership: the handle is the caller's, to be ended by ph_smtp_server_free. Options are copied.
 * Thread: any thread.
 * Since: 0.1.
 */
ph_status ph_smtp_server_new(const ph_smtp_server_options *options,
                             uint64_t now_ms,
                             ph_smtp_server **out,
                             ph_error *err);

/**
 * Consumes input and tells what comes next.
 *
 * Behaviour: call it until it answers PH_SMTP_NEED_INPUT, PH_SMTP_BLOCKED or PH_SMTP_CLOSED; when
 * an event has PH_SMTP_FLAG_PAUSED, answer it before the next step. Then write out what is
 * pending, and wait for input, for the deadline, or for your own answer. What was not consumed
 * comes again at the front of the next input. The result is the same however the input is cut.
 * Parameters: session; now_ms; input, input_len octets received and not consumed yet, may be NULL
 * when input_len is 0; consumed, where the number of octets that are done with goes; event, with
 * struct_size set.
 * Returns: PH_OK or an error. What a peer does wrong is answered on the wire and is no error.
 * Errors: PH_E_STATE when the last event still waits for its answer; PH_E_STRUCT_SIZE, PH_E_BUSY,
 * PH_E_INTERNAL, PH_E_NULL.
 * Ownership: see ph_smtp_event. The input must stay as it is while a PH_SMTP_DATA_CHUNK of it is
 * in use.
 * Thread: one at a time.
 * Since: 0.1.
 */
ph_status ph_smtp_server_step(ph_smtp_server *session,
                              uint64_t now_ms,
                              const uint8_t *input,
                              size_t input_len,
                              size_t *consumed,
                              ph_smtp_event *event);

/**
 * Answers the event that pauses with the session's own positive reply.
 *
 * Parameters: session.
 * Returns: PH_OK or an error.
 * Errors: PH_E_STATE when no event waits for this answer; PH_E_BUSY, PH_E_INTERNAL, PH_E_NULL.
 * Thread: one at a time.
 * Since: 0.1.
 */
ph_status ph_smtp_server_accept(ph_smtp_server *session);

/**
 * Answers the event that pauses with a reply of the host's.
 *
 * Behaviour: a code of class 2 (of class 3 for PH_SMTP_DATA_START) accepts, every other refuses.
 * Parameters: session; code, 200 to 599; enhanced, the enhanced status code as text ("5.1.1", RFC
 * 3463), whose class is the code's, or empty for none; text, UTF-8, several lines divided by LF,
 * or empty. Control characters do not reach the wire.
 * Returns: PH_OK or an error.
 * Errors: PH_E_INVALID_ARGUMENT for a code or an enhanced code that cannot be; PH_E_STATE when no
 * event waits for this answer; PH_E_UTF8, PH_E_BUSY, PH_E_INTERNAL, PH_E_NULL.
 * Ownership: everything is copied before the call returns.
 * Thread: one at a time.
 * Since: 0.1.
 */
ph_status ph_smtp_server_reply(ph_smtp_server *session,
                               uint32_t code,
                               ph_bytes enhanced,
                               ph_bytes text);

/**
 * Answers a login: PH_SMTP_AUTH, PH_SMTP_AUTH_CRAM_MD5, PH_SMTP_AUTH_TOKEN, PH_SMTP_AUTH_OUTCOME;
 * and with PH_AUTH_REFUSE or PH_AUTH_UNAVAILABLE every other question of a mechanism.
 *
 * Behaviour: a refusal is told to the client in the same words whether the name or the password is
 * wrong.
 * Parameters: session; verdict, PH_AUTH_ACCEPT, PH_AUTH_REFUSE or PH_AUTH_UNAVAILABLE.
 * Returns: PH_OK or an error.
 * Errors: PH_E_INVALID_ARGUMENT; PH_E_STATE when no event waits for this answer; PH_E_BUSY,
 * PH_E_INTERNAL, PH_E_NULL.
 * Thread: one at a time.
 * Since: 0.1.
 */
ph_status ph_smtp_server_auth(ph_smtp_server *session,
                              uint32_t verdict);

/**
 * Says which mechanisms are offered, where PH_OFFER_AUTH is given at all.
 *
 * Behaviour: without this call PLAIN and LOGIN are offered. The other mechanisms ask more than
 * whether a password is right: the host must answer their events. SCRAM-SHA-256-PLUS is offered
 * only when one of the bindings is given. Call it before the first step, and again after
 * ph_smtp_server_tls_started, which forgets the bindings.
 * Parameters: session; mechanisms, PH_MECHANISM_... added up; tls_exporter, the channel's data of
 * RFC 9266 (TLS 1.3: 32 octets exported with the label EXPORTER-Channel-Binding), or empty;
 * tls_server_end_point, the hash of the server's certificate (RFC 5929 4), or empty.
 * Returns: PH_OK or an error.
 * Errors: PH_E_INVALID_ARGUMENT for bits that are not PH_MECHANISM_...; PH_E_BUSY, PH_E_INTERNAL,
 * PH_E_NULL.
 * Ownership: everything is copied before the call returns.
 * Thread: one at a time.
 * Since: 0.1.
 */
ph_status ph_smtp_server_set_mechanisms(ph_smtp_server *session,
                                        uint32_t mechanisms,
                                        ph_bytes tls_exporter,
                                        ph_bytes tls_server_end_point);

/**
 * Answers PH_SMTP_AUTH_NONCE.
 *
 * Parameters: session; nonce, 18 octets (PH_NONCE_SIZE) that nobody can foresee, drawn anew each
 * time.
 * Returns: PH_OK or an error.
 * Errors: PH_E_INVALID_ARGUMENT for another length; PH_E_STATE when no event waits for this
 * answer; PH_E_BUSY, PH_E_INTERNAL, PH_E_NULL.
 * Ownership: everything is copied before the call returns.
 * Thread: one at a time.
 * Since: 0.1.
 */
ph_status ph_smtp_server_auth_nonce(ph_smtp_server *session,
                                    ph_bytes nonce);

/**
 * Answers PH_SMTP_AUTH_SCRAM.
 *
 * Parameters: session; keys, those of the login name, or of ph_scram_decoy; nonce, 18 octets
 * (PH_NONCE_SIZE) that nobody can foresee, drawn anew each time.
 * Returns: PH_OK or an error.
 * Errors: PH_E_INVALID_ARGUMENT for keys that cannot be or a nonce of another length; PH_E_STATE
 * when no event waits for this answer; PH_E_STRUCT_SIZE, PH_E_BUSY, PH_E_INTERNAL, PH_E_NULL.
 * Ownership: everything is copied before the call returns.
 * Thread: one at a time.
 * Since: 0.1.
 */
ph_status ph_smtp_server_auth_scram(ph_smtp_server *session,
                                    const ph_scram_keys *keys,
                                    ph_bytes nonce);

/**
 * Answers PH_SMTP_STARTTLS: the handshake is made.
 *
 * Behaviour: everything known before is forgotten (RFC 3207 4.2). When octets were received in the
 * clear behind STARTTLS, somebody has injected them: the session refuses to go on. When the
 * handshake fails, do not call this: free the session and close.
 * Parameters: session; offer, PH_OFFER_... added up, for the encrypted connection; unread,
 * unread_len octets that were received before the handshake and not consumed, may be NULL when
 * unread_len is 0.
 * Returns: PH_OK or an error.
 * Errors: PH_E_STATE when no event waits for this answer; PH_E_INVALID_ARGUMENT, PH_E_BUSY,
 * PH_E_INTERNAL, PH_E_NULL.
 * Thread: one at a time.
 * Since: 0.1.
 */
ph_status ph_smtp_server_tls_started(ph_smtp_server *session,
                                     uint32_t offer,
                                     const uint8_t *unread,
                                     size_t unread_len);

/**
 * In LMTP, answers PH_SMTP_DATA_END for the next accepted recipient, in the order of their RCPT.
 *
 * Behaviour: the event is answered when every recipient has its reply; ph_smtp_server_accept and
 * ph_smtp_server_reply stand for all that have none yet. A code of class 2 says that the message
 * is safe for this recipient. In the other dialects it is ph_smtp_server_reply.
 * Parameters: session; code, enhanced, text as for ph_smtp_server_reply.
 * Returns: PH_OK or an error.
 * Errors: as for ph_smtp_server_reply.
 * Ownership: everything is copied before the call returns.
 * Thread: one at a time.
 * Since: 0.1.
 */
ph_status ph_smtp_server_reply_recipient(ph_smtp_server *session,
                                         uint32_t code,
                                         ph_bytes enhanced,
                                         ph_bytes text);

/**
 * Says that the peer will send nothing more. Step afterwards.
 *
 * Parameters: session; now_ms.
 * Returns: PH_OK or an error.
 * Errors: PH_E_BUSY, PH_E_INTERNAL, PH_E_NULL.
 * Thread: one at a time.
 * Since: 0.1.
 */
ph_status ph_smtp_server_eof(ph_smtp_server *session, uint64_t now_ms);

/**
 * Says that the host stops serving.
 *
 * Behaviour: 421 at the next place where a reply may stand, then PH_SMTP_CLOSED. A message whose
 * end was already reported still gets its answer first. Step afterwards.
 * Parameters: session.
 * Returns: PH_OK or an error.
 * Errors: PH_E_BUSY, PH_E_INTERNAL, PH_E_NULL.
 * Thread: one at a time.
 * Since: 0.1.
 */
ph_status ph_smtp_server_shutdown(ph_smtp_server *session);

/**
 * Says when to step even without input.
 *
 * Parameters: session, or NULL.
 * Returns: a time on the host's clock in milliseconds, or PH_NEVER.
 * Thread: one at a time.
 * Since: 0.1.
 */
uint64_t ph_smtp_server_deadline(const ph_smtp_server *session);

/**
 * Shows the octets that wait to be written to the peer.
 *
 * Parameters: session, or NULL; pending, where the view goes; it is empty when nothing waits.
 * Ownership: what pending points to is borrowed until the next call on the session other than
 * deadline.
 * Thread: one at a time.
 * Since: 0.1.
 */
void ph_smtp_server_output(const ph_smtp_server *session,
                           ph_bytes *pending);

/**
 * Says how many of the pending octets have been written.
 *
 * Parameters: session, or NULL; written, at most as many as were pending.
 * Thread: one at a time.
 * Since: 0.1.
 */
void ph_smtp_server_output_sent(ph_smtp_server *session, size_t written);

/**
 * Destroys a session.
 *
 * Parameters: session, or NULL, which does nothing.
 * Ownership: ends the handle and everything borrowed from it.
 * Thread: any thread, when no other call on the session runs.
 * Since: 0.1.
 */
void ph_smtp_server_free(ph_smtp_server *session);

/*
 * == Sessions: ph_smtp_client ==
 */

/**
 * Makes a session for a new connection.
 *
 * Behaviour: nothing is pending; the session waits for the peer's greeting, from now on.
 * Parameters: options, or NULL for the defaults; now_ms, milliseconds on a clock of the host's
 * choice that never goes back; out, where the handle goes (NULL when the call fails); err, or
 * NULL.
 * Returns: PH_OK or an error.
 * Errors: PH_E_STRUCT_SIZE, PH_E_INVALID_ARGUMENT, PH_E_UTF8, PH_E_NULL.
 * Ownership: the handle is the caller's, to be ended by ph_smtp_client_free. Options are copied.
 * Thread: any thread.
 * Since: 0.1.
 */
ph_status ph_smtp_client_new(const ph_smtp_client_options *options,
                             uint64_t now_ms,
                             ph_smtp_client **out,
                             ph_error *err);

/**
 * Consumes input and tells what comes next.
 *
 * Behaviour: call it until it answers PH_SMTP_CLIENT_NEED_INPUT, PH_SMTP_CLIENT_BLOCKED or
 * PH_SMTP_CLIENT_CLOSED. Then write out what is pending, and wait for input, for the deadline, or
 * begin a transaction. What was not consumed comes again at the front of the next input, which
 * must have room for 4096 octets. The result is the same however the input is cut.
 * Parameters: session; now_ms; input, input_len octets received and not consumed yet, may be NULL
 * when input_len is 0; consumed, where the number of octets that are done with goes; event, with
 * struct_size set.
 * Returns: PH_OK or an error. What a peer does wrong is an outcome and no error.
 * Errors: PH_E_STRUCT_SIZE, PH_E_BUSY, PH_E_INTERNAL, PH_E_NULL.
 * Ownership: see ph_smtp_client_event.
 * Thread: one at a time.
 * Since: 0.1.
 */
ph_status ph_smtp_client_step(ph_smtp_client *session,
                              uint64_t now_ms,
                              const uint8_t *input,
                              size_t input_len,
                              size_t *consumed,
                              ph_smtp_client_event *event);

/**
 * Begins a transaction.
 *
 * Behaviour: allowed behind PH_SMTP_CLIENT_READY and PH_SMTP_CLIENT_DONE. Step afterwards; each
 * recipient brings one PH_SMTP_CLIENT_RECIPIENT, and PH_SMTP_CLIENT_DONE closes it. After an error
 * the session is as before.
 * Parameters: session; transaction.
 * Returns: PH_OK or an error.
 * Errors: PH_E_STATE when the session is not idle; PH_E_LIMIT when the peer takes no more
 * transactions on this connection; PH_E_ADDRESS for an address and PH_E_INVALID_ARGUMENT for a
 * parameter that cannot be sent; PH_E_UTF8, PH_E_STRUCT_SIZE, PH_E_BUSY, PH_E_INTERNAL, PH_E_NULL.
 * Ownership: everything is copied before the call returns.
 * Thread: one at a time.
 * Since: 0.1.
 */
ph_status ph_smtp_client_begin(ph_smtp_client *session,
                               const ph_smtp_transaction *transaction);

/**
 * Answers PH_SMTP_CLIENT_NEED_BODY with a piece of the message.
 *
 * Behaviour: any cut is good. Line ends become CR LF and dots are stuffed by the session. Step
 * afterwards.
 * Parameters: session; data, 1 to as many octets as the event's size.
 * Returns: PH_OK or an error.
 * Errors: PH_E_STATE when no piece is wanted; PH_E_INVALID_ARGUMENT for an empty or too large
 * piece; PH_E_BUSY, PH_E_INTERNAL, PH_E_NULL.
 * Ownership: the piece is copied before the call returns.
 * Thread: one at a time.
 * Since: 0.1.
 */
ph_status ph_smtp_client_body(ph_smtp_client *session,
                              ph_bytes data);

/**
 * Answers PH_SMTP_CLIENT_NEED_BODY: the message is whole.
 *
 * Parameters: session.
 * Returns: PH_OK or an error.
 * Errors: PH_E_STATE when no piece is wanted; PH_E_BUSY, PH_E_INTERNAL, PH_E_NULL.
 * Thread: one at a time.
 * Since: 0.1.
 */
ph_status ph_smtp_client_body_end(ph_smtp_client *session);

/**
 * Answers PH_SMTP_CLIENT_NEED_BODY: the message cannot be read.
 *
 * Behaviour: every recipient is PH_VERDICT_TEMPORARY. Where the message went by DATA the
 * connection ends, because nothing else stops the peer from taking a part for the whole.
 * Parameters: session; why, UTF-8, one line that goes into the outcomes.
 * Returns: PH_OK or an error.
 * Errors: PH_E_STATE when no piece is wanted; PH_E_UTF8, PH_E_BUSY, PH_E_INTERNAL, PH_E_NULL.
 * Thread: one at a time.
 * Since: 0.1.
 */
ph_status ph_smtp_client_body_failed(ph_smtp_client *session,
                                     ph_bytes why);

/**
 * Answers PH_SMTP_CLIENT_STARTTLS: the handshake is made.
 *
 * Behaviour: everything that was said before is forgotten and EHLO is said again (RFC 3207 4.2).
 * Octets that came in the clear behind the 220 fail the session: somebody injected them. On a
 * session with PH_SMTP_CLIENT_UNDER_TLS, before its first step: takes nonce and exporter, and does
 * nothing else. At any other time: no effect. Step afterwards.
 * Parameters: session; nonce, 18 fresh random octets for SCRAM, or NULL to keep what the options
 * gave; exporter, exporter_len octets of the channel's tls-exporter data (RFC 9266) for
 * SCRAM-SHA-256-PLUS, may be NULL when exporter_len is 0; unread, unread_len octets that were
 * received before the handshake and not consumed, may be NULL when unread_len is 0.
 * Returns: PH_OK or an error.
 * Errors: PH_E_INVALID_ARGUMENT, PH_E_BUSY, PH_E_INTERNAL, PH_E_NULL.
 * Thread: one at a time.
 * Since: 0.1.
 */
ph_status ph_smtp_client_tls_started(ph_smtp_client *session,
                                     const uint8_t *nonce,
                                     const uint8_t *exporter,
                                     size_t exporter_len,
                                     const uint8_t *unread,
                                     size_t unread_len);

/**
 * Answers PH_SMTP_CLIENT_STARTTLS: the handshake failed.
 *
 * Behaviour: PH_SMTP_CLIENT_FAILED and PH_SMTP_CLIENT_CLOSED follow. Without
 * PH_SMTP_CLIENT_STARTTLS before it: no effect.
 * Parameters: session; why, UTF-8, one line that goes into the event's text.
 * Returns: PH_OK or an error.
 * Errors: PH_E_UTF8, PH_E_BUSY, PH_E_INTERNAL, PH_E_NULL.
 * Thread: one at a time.
 * Since: 0.1.
 */
ph_status ph_smtp_client_tls_failed(ph_smtp_client *session,
                                    ph_bytes why);

/**
 * Says goodbye.
 *
 * Behaviour: QUIT goes out with the next step when the session is idle, otherwise when it becomes
 * so. PH_SMTP_CLIENT_CLOSED follows.
 * Parameters: session.
 * Returns: PH_OK or an error.
 * Errors: PH_E_BUSY, PH_E_INTERNAL, PH_E_NULL.
 * Thread: one at a time.
 * Since: 0.1.
 */
ph_status ph_smtp_client_quit(ph_smtp_client *session);

/**
 * Says that the peer will send nothing more. Step afterwards.
 *
 * Parameters: session; now_ms.
 * Returns: PH_OK or an error.
 * Errors: PH_E_BUSY, PH_E_INTERNAL, PH_E_NULL.
 * Thread: one at a time.
 * Since: 0.1.
 */
ph_status ph_smtp_client_eof(ph_smtp_client *session, uint64_t now_ms);

/**
 * Says when to step even without input.
 *
 * Parameters: session, or NULL.
 * Returns: a time on the host's clock in milliseconds, or PH_NEVER.
 * Thread: one at a time.
 * Since: 0.1.
 */
uint64_t ph_smtp_client_deadline(const ph_smtp_client *session);

/**
 * Shows the octets that wait to be written to the peer.
 *
 * Parameters: session, or NULL; pending, where the view goes; it is empty when nothing waits.
 * Ownership: what pending points to is borrowed until the next call on the session other than
 * deadline.
 * Thread: one at a time.
 * Since: 0.1.
 */
void ph_smtp_client_output(const ph_smtp_client *session,
                           ph_bytes *pending);

/**
 * Says how many of the pending octets have been written.
 *
 * Parameters: session, or NULL; written, at most as many as were pending.
 * Thread: one at a time.
 * Since: 0.1.
 */
void ph_smtp_client_output_sent(ph_smtp_client *session, size_t written);

/**
 * Destroys a session.
 *
 * Parameters: session, or NULL, which does nothing.
 * Ownership: ends the handle and everything borrowed from it.
 * Thread: any thread, when no other call on the session runs.
 * Since: 0.1.
 */
void ph_smtp_client_free(ph_smtp_client *session);

/*
 * == Sessions: ph_pop3_server ==
 */

/**
 * Makes a session for a new connection.
 *
 * Behaviour: nothing is pending yet; the first step answers PH_POP3_CONNECT.
 * Parameters: options, or NULL for the defaults; now_ms, milliseconds on a clock of the host's
 * choice that never goes back; out, where the handle goes (NULL when the call fails); err, or
 * NULL.
 * Returns: PH_OK or an error.
 * Errors: PH_E_STRUCT_SIZE, PH_E_INVALID_ARGUMENT, PH_E_UTF8, PH_E_NULL.
 * Ownership: the handle is the caller's, to be ended by ph_pop3_server_free. Options are copied.
 * Thread: any thread.
 * Since: 0.1.
 */
ph_status ph_pop3_server_new(const ph_pop3_server_options *options,
                             uint64_t now_ms,
                             ph_pop3_server **out,
                             ph_error *err);

/**
 * Consumes input and tells what comes next.
 *
 * Behaviour: call it until it answers PH_POP3_NEED_INPUT, PH_POP3_BLOCKED or PH_POP3_CLOSED; when
 * an event has PH_POP3_FLAG_PAUSED, answer it before the next step. Then write out what is
 * pending, and wait for input, for the deadline, or for your own answer. What was not consumed
 * comes again at the front of the next input. The result is the same however the input is cut.
 * Parameters: session; now_ms; input, input_len octets received and not consumed yet, may be NULL
 * when input_len is 0; consumed, where the number of octets that are done with goes; event, with
 * struct_size set.
 * Returns: PH_OK or an error. What a peer does wrong is answered on the wire and is no error.
 * Errors: PH_E_STATE when the last event still waits for its answer; PH_E_STRUCT_SIZE, PH_E_BUSY,
 * PH_E_INTERNAL, PH_E_NULL.
 * Ownership: see ph_pop3_event.
 * Thread: one at a time.
 * Since: 0.1.
 */
ph_status ph_pop3_server_step(ph_pop3_server *session,
                              uint64_t now_ms,
                              const uint8_t *input,
                              size_t input_len,
                              size_t *consumed,
                              ph_pop3_event *event);

/**
 * Answers PH_POP3_CONNECT: greets.
 *
 * Parameters: session.
 * Returns: PH_OK or an error.
 * Errors: PH_E_STATE when no event waits for this answer; PH_E_BUSY, PH_E_INTERNAL, PH_E_NULL.
 * Thread: one at a time.
 * Since: 0.1.
 */
ph_status ph_pop3_server_accept(ph_pop3_server *session);

/**
 * Answers PH_POP3_CONNECT: turns the peer away with -ERR.
 *
 * Parameters: session; text, one line of UTF-8. Control characters do not reach the wire.
 * Returns: PH_OK or an error.
 * Errors: PH_E_STATE when no event waits for this answer; PH_E_UTF8, PH_E_BUSY, PH_E_INTERNAL,
 * PH_E_NULL.
 * Ownership: everything is copied before the call returns.
 * Thread: one at a time.
 * Since: 0.1.
 */
ph_status ph_pop3_server_refuse(ph_pop3_server *session,
                                ph_bytes text);

/**
 * Answers a login (PH_POP3_AUTH, PH_POP3_AUTH_CRAM_MD5, PH_POP3_AUTH_TOKEN, PH_POP3_AUTH_OUTCOME):
 * it is right, and the maildrop is locked for this session.
 *
 * Parameters: session; maildrop, with at most 4294967295 messages.
 * Returns: PH_OK or an error.
 * Errors: PH_E_STATE when no event waits for this answer; PH_E_STRUCT_SIZE, PH_E_INVALID_ARGUMENT,
 * PH_E_BUSY, PH_E_INTERNAL, PH_E_NULL.
 * Ownership: everything is copied before the call returns.
 * Thread: one at a time.
 * Since: 0.1.
 */
ph_status ph_pop3_server_opened(ph_pop3_server *session,
                                const ph_pop3_maildrop *maildrop);

/**
 * Answers a login, or any other question of a mechanism: it does not open a maildrop.
 *
 * Parameters: session; reason, PH_POP3_DENIED_...
 * Returns: PH_OK or an error.
 * Errors: PH_E_INVALID_ARGUMENT; PH_E_STATE when no event waits for this answer; PH_E_BUSY,
 * PH_E_INTERNAL, PH_E_NULL.
 * Thread: one at a time.
 * Since: 0.1.
 */
ph_status ph_pop3_server_denied(ph_pop3_server *session,
                                uint32_t reason);

/**
 * Says which mechanisms are offered, where PH_OFFER_AUTH is given at all.
 *
 * Behaviour: without this call PLAIN and LOGIN are offered. The other mechanisms ask more than
 * whether a password is right: the host must answer their events. SCRAM-SHA-256-PLUS is offered
 * only when one of the bindings is given. Call it before the first step, and again after
 * ph_pop3_server_tls_started, which forgets the bindings.
 * Parameters: session; mechanisms, PH_MECHANISM_... added up; tls_exporter, the channel's data of
 * RFC 9266 (TLS 1.3: 32 octets exported with the label EXPORTER-Channel-Binding), or empty;
 * tls_server_end_point, the hash of the server's certificate (RFC 5929 4), or empty.
 * Returns: PH_OK or an error.
 * Errors: PH_E_INVALID_ARGUMENT for bits that are not PH_MECHANISM_...; PH_E_BUSY, PH_E_INTERNAL,
 * PH_E_NULL.
 * Ownership: everything is copied before the call returns.
 * Thread: one at a time.
 * Since: 0.1.
 */
ph_status ph_pop3_server_set_mechanisms(ph_pop3_server *session,
                                        uint32_t mechanisms,
                                        ph_bytes tls_exporter,
                                        ph_bytes tls_server_end_point);

/**
 * Answers PH_POP3_AUTH_NONCE.
 *
 * Parameters: session; nonce, 18 octets (PH_NONCE_SIZE) that nobody can foresee, drawn anew each
 * time.
 * Returns: PH_OK or an error.
 * Errors: PH_E_INVALID_ARGUMENT for another length; PH_E_STATE when no event waits for this
 * answer; PH_E_BUSY, PH_E_INTERNAL, PH_E_NULL.
 * Ownership: everything is copied before the call returns.
 * Thread: one at a time.
 * Since: 0.1.
 */
ph_status ph_pop3_server_auth_nonce(ph_pop3_server *session,
                                    ph_bytes nonce);

/**
 * Answers PH_POP3_AUTH_SCRAM.
 *
 * Parameters: session; keys, those of the login name, or of ph_scram_decoy; nonce, 18 octets
 * (PH_NONCE_SIZE) that nobody can foresee, drawn anew each time.
 * Returns: PH_OK or an error.
 * Errors: PH_E_INVALID_ARGUMENT for keys that cannot be or a nonce of another length; PH_E_STATE
 * when no event waits for this answer; PH_E_STRUCT_SIZE, PH_E_BUSY, PH_E_INTERNAL, PH_E_NULL.
 * Ownership: everything is copied before the call returns.
 * Thread: one at a time.
 * Since: 0.1.
 */
ph_status ph_pop3_server_auth_scram(ph_pop3_server *session,
                                    const ph_scram_keys *keys,
                                    ph_bytes nonce);

/**
 * Answers PH_POP3_NEED_BODY: some octets of the message.
 *
 * Parameters: session; data, at least one octet and at most max of the event.
 * Returns: PH_OK or an error.
 * Errors: PH_E_INVALID_ARGUMENT for none or too many octets; PH_E_STATE when no event waits for
 * this answer; PH_E_BUSY, PH_E_INTERNAL, PH_E_NULL.
 * Ownership: everything is copied before the call returns.
 * Thread: one at a time.
 * Since: 0.1.
 */
ph_status ph_pop3_server_body(ph_pop3_server *session,
                              ph_bytes data);

/**
 * Answers PH_POP3_NEED_BODY: the message has no more octets.
 *
 * Parameters: session.
 * Returns: PH_OK or an error.
 * Errors: PH_E_STATE when no event waits for this answer; PH_E_BUSY, PH_E_INTERNAL, PH_E_NULL.
 * Thread: one at a time.
 * Since: 0.1.
 */
ph_status ph_pop3_server_body_end(ph_pop3_server *session);

/**
 * Answers PH_POP3_NEED_BODY: the octets cannot be read.
 *
 * Behaviour: before the first octet the client gets -ERR [SYS/PERM]; later the connection is
 * closed without the final dot, so that the client cannot take a part for the whole.
 * Parameters: session.
 * Returns: PH_OK or an error.
 * Errors: PH_E_STATE when no event waits for this answer; PH_E_BUSY, PH_E_INTERNAL, PH_E_NULL.
 * Thread: one at a time.
 * Since: 0.1.
 */
ph_status ph_pop3_server_body_failed(ph_pop3_server *session);

/**
 * Answers PH_POP3_UPDATE.
 *
 * Parameters: session; all_removed, 1 when all of deleted is removed, 0 when not.
 * Returns: PH_OK or an error.
 * Errors: PH_E_INVALID_ARGUMENT; PH_E_STATE when no event waits for this answer; PH_E_BUSY,
 * PH_E_INTERNAL, PH_E_NULL.
 * Thread: one at a time.
 * Since: 0.1.
 */
ph_status ph_pop3_server_updated(ph_pop3_server *session,
                                 uint32_t all_removed);

/**
 * Answers PH_POP3_STARTTLS: the handshake is made.
 *
 * Behaviour: everything known before is forgotten (RFC 2595 4). When octets were received in the
 * clear behind STLS, somebody has injected them: the session refuses to go on. When the handshake
 * fails, do not call this: free the session and close.
 * Parameters: session; offer, PH_OFFER_... added up, for the encrypted connection; unread,
 * unread_len octets that were received before the handshake and not consumed, may be NULL when
 * unread_len is 0.
 * Returns: PH_OK or an error.
 * Errors: PH_E_STATE when no event waits for this answer; PH_E_INVALID_ARGUMENT, PH_E_BUSY,
 * PH_E_INTERNAL, PH_E_NULL.
 * Thread: one at a time.
 * Since: 0.1.
 */
ph_status ph_pop3_server_tls_started(ph_pop3_server *session,
                                     uint32_t offer,
                                     const uint8_t *unread,
                                     size_t unread_len);

/**
 * Says that the peer will send nothing more. Step afterwards.
 *
 * Parameters: session; now_ms.
 * Returns: PH_OK or an error.
 * Errors: PH_E_BUSY, PH_E_INTERNAL, PH_E_NULL.
 * Thread: one at a time.
 * Since: 0.1.
 */
ph_status ph_pop3_server_eof(ph_pop3_server *session, uint64_t now_ms);

/**
 * Says that the host stops serving.
 *
 * Behaviour: -ERR [SYS/TEMP] and PH_POP3_CLOSED at the next place where a reply may stand. Deletes
 * nothing. Step afterwards.
 * Parameters: session.
 * Returns: PH_OK or an error.
 * Errors: PH_E_BUSY, PH_E_INTERNAL, PH_E_NULL.
 * Thread: one at a time.
 * Since: 0.1.
 */
ph_status ph_pop3_server_shutdown(ph_pop3_server *session);

/**
 * Says when to step even without input.
 *
 * Parameters: session, or NULL.
 * Returns: a time on the host's clock in milliseconds, or PH_NEVER.
 * Thread: one at a time.
 * Since: 0.1.
 */
uint64_t ph_pop3_server_deadline(const ph_pop3_server *session);

/**
 * Shows the octets that wait to be written to the peer.
 *
 * Parameters: session, or NULL; pending, where the view goes; it is empty when nothing waits.
 * Ownership: what pending points to is borrowed until the next call on the session other than
 * deadline.
 * Thread: one at a time.
 * Since: 0.1.
 */
void ph_pop3_server_output(const ph_pop3_server *session,
                           ph_bytes *pending);

/**
 * Says how many of the pending octets have been written.
 *
 * Parameters: session, or NULL; written, at most as many as were pending.
 * Thread: one at a time.
 * Since: 0.1.
 */
void ph_pop3_server_output_sent(ph_pop3_server *session, size_t written);

/**
 * Destroys a session.
 *
 * Parameters: session, or NULL, which does nothing.
 * Ownership: ends the handle and everything borrowed from it.
 * Thread: any thread, when no other call on the session runs.
 * Since: 0.1.
 */
void ph_pop3_server_free(ph_pop3_server *session);

#ifdef __cplusplus
} /* extern "C" */
#endif

#endif /* POSTHOUSE_H */
