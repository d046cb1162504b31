{{ config(meta={"dagster": {"ref": {"name": "unlabeled_projects"}}}) }}

-- An id fails when it is not as often in the two models together as in the raw table: lost, doubled or made up.
select
    id,
    sum(in_raw) as times_raw,
    sum(in_models) as times_in_models
from (
    select id, 1 as in_raw, 0 as in_models from {{ source('raw', 'projects') }} as raw_projects
    union all
    select id, 0 as in_raw, 1 as in_models from {{ ref('labeled_projects') }} as labeled
    union all
    select id, 0 as in_raw, 1 as in_models from {{ ref('unlabeled_projects') }} as unlabeled
) as counted
group by id
having sum(in_raw) <> sum(in_models)
