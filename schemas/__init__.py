"""What is said: facts in Kafka, frames on sockets, and their codecs. Imports nothing of ours."""
