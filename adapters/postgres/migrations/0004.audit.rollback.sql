DROP TABLE audit_heals;
