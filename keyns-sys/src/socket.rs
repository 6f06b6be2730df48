//! SOCK_SEQPACKET sockets with descriptors.
