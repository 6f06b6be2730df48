//! Processes, namespaces and credentials of the calling thread.
