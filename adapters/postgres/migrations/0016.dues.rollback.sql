DROP TABLE notifications_due;
