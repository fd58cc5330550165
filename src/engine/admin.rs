//! Administration as data: what the command line and the control socket ask, and what the engine answers.
