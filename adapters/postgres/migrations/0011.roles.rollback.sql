DROP FUNCTION millrace_redeem_ticket(bytea);
