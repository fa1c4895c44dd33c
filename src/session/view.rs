//! What monitoring sees of the engine.
