"""The contract: events in Kafka, frames and commands on sockets, HTTP calls and answers. Imports nothing of ours."""
