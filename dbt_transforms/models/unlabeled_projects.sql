{% call(on_changed_days) merged(['created_on']) %}
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
    {{ on_changed_days }}
{% endcall %}
