DROP TABLE tickets, revocations;
