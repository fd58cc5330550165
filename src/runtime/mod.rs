//! Sockets, threads, TLS, timers: the only room that has them.
