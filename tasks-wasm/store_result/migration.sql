-- The rows of store_result: one for each task, whatever the number of times that it is delivered.
create table if not exists task_results (
    task_id text primary key,
    status text not null check (status in ('SUCCESS', 'FAILURE')),
    result jsonb,
    stored_at timestamptz not null default now()
);
