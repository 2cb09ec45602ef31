//! A 16550 UART on I/O ports: sending by polling, receiving by polling or interrupt.

use crate::port::Io;

/// First port of COM1; its interrupt line is 4.
pub const COM1: u16 = 0x3f8;

// Registers, relative to the first port.
const DATA: u16 = 0;
const INTERRUPT_ENABLE: u16 = 1;
const DIVISOR_HIGH: u16 = 1;
const FIFO_CONTROL: u16 = 2;
const LINE_CONTROL: u16 = 3;
const MODEM_CONTROL: u16 = 4;
const LINE_STATUS: u16 = 5;
const SCRATCH: u16 = 7;

const RX_INTERRUPT: u8 = 1;
/// FIFOs on and emptied, interrupt from the first byte on.
const FIFO_ON_AND_CLEAR: u8 = 0x07;
/// 8 data bits, no parity, one stop bit.
const EIGHT_N_ONE: u8 = 0x03;
const DIVISOR_ACCESS: u8 = 0x80;
/// DTR, RTS, and OUT2, which lets the interrupt out of the chip.
const READY_WITH_INTERRUPT: u8 = 0x0b;
const DATA_READY: u8 = 0x01;
const TX_EMPTY: u8 = 0x20;
/// Bytes that fit the transmit FIFO when it is empty.
const FIFO_BYTES: u8 = 16;

/// There is no 16550 at the port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotPresent {
    /// The first port that was tried.
    pub base: u16,
}

impl core::fmt::Display for NotPresent {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "no UART at port {:#x}", self.base)
    }
}

/// A UART, set to 115200 baud, 8N1, FIFOs on.
#[derive(Debug)]
pub struct Uart<I: Io> {
    io: I,
    base: u16,
    /// Bytes that surely fit the transmit FIFO.
    room: u8,
}

impl<I: Io> Uart<I> {
    /// Sets the UART at `base` up, with its interrupts off.
    ///
    /// # Errors
    /// [`NotPresent`], when nothing keeps what is written there.
    pub fn new(io: I, base: u16) -> Result<Self, NotPresent> {
        let mut uart = Self { io, base, room: 0 };
        for probe in [0x5a, 0xa5] {
            uart.write(SCRATCH, probe);
            if uart.read(SCRATCH) != probe {
                return Err(NotPresent { base });
            }
        }
        uart.write(INTERRUPT_ENABLE, 0);
        uart.write(LINE_CONTROL, DIVISOR_ACCESS);
        uart.write(DATA, 1);
        uart.write(DIVISOR_HIGH, 0);
        uart.write(LINE_CONTROL, EIGHT_N_ONE);
        uart.write(FIFO_CONTROL, FIFO_ON_AND_CLEAR);
        uart.write(MODEM_CONTROL, READY_WITH_INTERRUPT);
        Ok(uart)
    }

    /// A received byte, if there is one. After an interrupt read until `None`: an edge-triggered
    /// line does not fire again for what is left.
    pub fn try_read(&mut self) -> Option<u8> {
        let status = self.read(LINE_STATUS);
        self.note_room(status);
        (status & DATA_READY != 0).then(|| self.read(DATA))
    }

    /// Sends a byte if there is room; `false`: not now.
    pub fn try_write(&mut self, byte: u8) -> bool {
        if self.room == 0 {
            let status = self.read(LINE_STATUS);
            self.note_room(status);
            if self.room == 0 {
                return false;
            }
        }
        self.room -= 1;
        self.write(DATA, byte);
        true
    }

    /// Turns the interrupt for received bytes on or off.
    pub fn enable_rx_interrupt(&mut self, on: bool) {
        self.write(INTERRUPT_ENABLE, if on { RX_INTERRUPT } else { 0 });
    }

    fn note_room(&mut self, status: u8) {
        if status & TX_EMPTY != 0 {
            self.room = FIFO_BYTES;
        }
    }

    fn read(&mut self, register: u16) -> u8 {
        self.io.in8(self.base + register)
    }

    fn write(&mut self, register: u16, value: u8) {
        self.io.out8(self.base + register, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::{collections::VecDeque, rc::Rc, vec, vec::Vec};
    use core::cell::RefCell;

    /// A 16550 at COM1; `present` off: an empty port.
    #[derive(Debug, Default)]
    struct Chip {
        present: bool,
        divisor_access: bool,
        divisor: [u8; 2],
        scratch: u8,
        interrupts: u8,
        modem: u8,
        fifo: u8,
        received: VecDeque<u8>,
        fifo_out: Vec<u8>,
        status_reads: u32,
    }

    #[derive(Debug, Clone, Default)]
    struct FakeIo(Rc<RefCell<Chip>>);

    impl Io for FakeIo {
        fn in8(&mut self, port: u16) -> u8 {
            let mut chip = self.0.borrow_mut();
            if !chip.present {
                return 0xff;
            }
            match port - COM1 {
                DATA => chip.received.pop_front().expect("read without data"),
                LINE_STATUS => {
                    chip.status_reads += 1;
                    (if chip.received.is_empty() {
                        0
                    } else {
                        DATA_READY
                    }) | (if chip.fifo_out.is_empty() {
                        TX_EMPTY
                    } else {
                        0
                    })
                }
                SCRATCH => chip.scratch,
                other => panic!("read of register {other}"),
            }
        }

        fn out8(&mut self, port: u16, value: u8) {
            let mut chip = self.0.borrow_mut();
            match port - COM1 {
                DATA if chip.divisor_access => chip.divisor[0] = value,
                INTERRUPT_ENABLE if chip.divisor_access => chip.divisor[1] = value,
                DATA => {
                    assert!(chip.fifo_out.len() < 16, "FIFO overrun");
                    chip.fifo_out.push(value);
                }
                INTERRUPT_ENABLE => chip.interrupts = value,
                FIFO_CONTROL => chip.fifo = value,
                LINE_CONTROL => chip.divisor_access = value & DIVISOR_ACCESS != 0,
                MODEM_CONTROL => chip.modem = value,
                SCRATCH => chip.scratch = value,
                other => panic!("write of register {other}"),
            }
        }

        fn in32(&mut self, _: u16) -> u32 {
            unreachable!("bytes only")
        }

        fn out32(&mut self, _: u16, _: u32) {
            unreachable!("bytes only")
        }
    }

    fn uart() -> (FakeIo, Uart<FakeIo>) {
        let io = FakeIo::default();
        io.0.borrow_mut().present = true;
        let uart = Uart::new(io.clone(), COM1).expect("present");
        (io, uart)
    }

    #[test]
    fn setup_is_115200_with_fifos_and_no_interrupts() {
        let (io, mut uart) = uart();
        {
            let chip = io.0.borrow();
            assert_eq!((chip.divisor, chip.divisor_access), ([1, 0], false));
            assert_eq!((chip.fifo, chip.modem, chip.interrupts), (7, 0x0b, 0));
        }
        uart.enable_rx_interrupt(true);
        assert_eq!(io.0.borrow().interrupts, 1);
        uart.enable_rx_interrupt(false);
        assert_eq!(io.0.borrow().interrupts, 0);
    }

    #[test]
    fn an_empty_port_is_reported() {
        assert_eq!(
            Uart::new(FakeIo::default(), COM1).map(|_| ()),
            Err(NotPresent { base: COM1 })
        );
    }

    #[test]
    fn sixteen_bytes_go_out_for_one_look_at_the_status() {
        let (io, mut uart) = uart();
        let sent = (0..100).take_while(|&byte| uart.try_write(byte)).count();
        assert_eq!(sent, 16);
        // One look that found room, one that found none.
        assert_eq!(io.0.borrow().status_reads, 2);
        io.0.borrow_mut().fifo_out.clear();
        assert!(uart.try_write(b'x'));
        assert_eq!(io.0.borrow().fifo_out, [b'x']);
    }

    #[test]
    fn received_bytes_are_read_in_order() {
        let (io, mut uart) = uart();
        assert_eq!(uart.try_read(), None);
        io.0.borrow_mut().received.extend(*b"ab");
        let read: Vec<_> = core::iter::from_fn(|| uart.try_read()).collect();
        assert_eq!(read, vec![b'a', b'b']);
    }
}
