-- Readable forms of the marks for clocks. `clock_wrong`: the edge's system clock was wrong, and `time` is its
-- last trusted time plus the time elapsed since. With `time_unknown` as well, the edge had no trusted time,
-- and `time` is the aggregator's time of reception less the age of the event.
ALTER TABLE ${database}.${events} ADD COLUMN IF NOT EXISTS clock_wrong Bool ALIAS bitTest(flags, 9);
ALTER TABLE ${database}.${events} ADD COLUMN IF NOT EXISTS time_unknown Bool ALIAS bitTest(flags, 10);
