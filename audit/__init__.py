"""The audit: what the store, the topics and the stages hold of each message, compared while all goes on."""
