#![no_std]
//! virtio-blk and virtio-net drivers, transports, UART.
