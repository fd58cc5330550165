//! Deliveries against servers that behave as told.
