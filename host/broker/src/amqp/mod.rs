//! RabbitMQ, by lapin: one connection that consumes, one that publishes, so that a broker which takes no
//! messages (an alarm) still gets its acks; both on threads of their own, so that running tasks never
//! starve a heartbeat.

mod ack;
mod channel;
mod client;
mod confirms;
mod consume;
mod convert;
mod declare;
mod delay;
mod flights;
mod forward;
mod guard;
mod levels;
mod names;
mod operation;
mod publish;
mod reply_code;
mod send;
mod subscription;
mod supervise;
mod table;
mod window;

pub(crate) use client::Amqp;
