DROP INDEX notifications_open;
