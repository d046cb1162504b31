{{ config(pre_hook="{{ drop_labeled() }}") }}
{% call(changed) merged(['created_on'], ['projects']) %}
select
    projects.id,
    projects.created_on,
    projects.title,
    projects.description
from {{ source('raw', 'projects') }} as projects
where
    not exists (
        select 1
        from {{ source('raw', 'tags') }} as tags
        where
            tags.id = projects.id
            and tags.tag is not null
    )
    {{ changed }}
{% endcall %}
