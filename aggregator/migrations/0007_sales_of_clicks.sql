-- A report that takes a sale back and names no transaction is about the click's only sale.
CREATE INDEX conversions_by_click ON conversions (click_id);
