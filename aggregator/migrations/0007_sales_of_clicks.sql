-- A refund without a transaction id belongs to the click's only sale.
CREATE INDEX conversions_by_click ON conversions (click_id);
